package org.edgesparse.example

import android.app.Activity
import android.os.Bundle
import android.widget.TextView
import kotlin.concurrent.thread

/** Draws a one, and shows what the model takes it for and how long that took. */
class MainActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val text = TextView(this).apply { textSize = 24f }
        setContentView(text)
        thread {
            val answer = classify()
            runOnUiThread { text.text = answer }
        }
    }

    private fun classify(): String = Model(this).use { model ->
        val image = model.newInput(0)
        val logits = model.newOutput(0)
        for (row in 4 until 28) {
            for (column in 14 until 18) {
                image.putFloat(4 * (SIDE * row + column), 1f)
            }
        }
        val start = System.nanoTime()
        model.run(arrayOf(image), arrayOf(logits))
        val micros = (System.nanoTime() - start) / 1000
        val scores = FloatArray(CLASSES).also { logits.asFloatBuffer().get(it) }
        val best = scores.indices.maxByOrNull { scores[it] }
        "it is a $best ($micros us)"
    }

    private companion object {
        const val SIDE = 32
        const val CLASSES = 10
    }
}
