package org.edgesparse.example

import android.content.Context
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/**
 * A model that edgesparse compiled, opened from an asset.
 *
 *     Model(context).use { model ->
 *         val image = model.newInput(0)
 *         val logits = model.newOutput(0)
 *         model.run(arrayOf(image), arrayOf(logits))
 *     }
 *
 * Tensors are direct buffers in native byte order, laid out as the bundle's model.h says.
 */
class Model(context: Context, asset: String = "weights.bin") : AutoCloseable {
    private var handle: Long = nativeOpen(map(context, asset))

    /** A buffer for input [index], to be filled. */
    fun newInput(index: Int): ByteBuffer = direct(bytesOf(index))

    /** A buffer for output [index], which [run] fills. */
    fun newOutput(index: Int): ByteBuffer = direct(bytesOf(-1 - index))

    /** Runs the model once; one run at a time, since a model has one arena. */
    @Synchronized
    fun run(inputs: Array<ByteBuffer>, outputs: Array<ByteBuffer>) {
        check(handle != 0L) { "the model is closed" }
        nativeRun(handle, inputs, outputs)
    }

    @Synchronized
    override fun close() {
        nativeClose(handle)
        handle = 0
    }

    @Synchronized
    private fun bytesOf(index: Int): Int {
        check(handle != 0L) { "the model is closed" }
        return Math.toIntExact(nativeTensorBytes(handle, index))
    }

    companion object {
        init {
            System.loadLibrary("digits")
        }

        private fun direct(bytes: Int): ByteBuffer =
            ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        /** Maps an asset that is stored uncompressed. */
        private fun map(context: Context, asset: String): ByteBuffer =
            context.assets.openFd(asset).use { descriptor ->
                descriptor.createInputStream().use { stream ->
                    stream.channel.map(
                        FileChannel.MapMode.READ_ONLY,
                        descriptor.startOffset,
                        descriptor.declaredLength,
                    )
                }
            }

        @JvmStatic
        private external fun nativeOpen(weights: ByteBuffer): Long

        @JvmStatic
        private external fun nativeClose(handle: Long)

        @JvmStatic
        private external fun nativeRun(
            handle: Long,
            inputs: Array<ByteBuffer>,
            outputs: Array<ByteBuffer>,
        )

        @JvmStatic
        private external fun nativeTensorBytes(handle: Long, index: Int): Long
    }
}
