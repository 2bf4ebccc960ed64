plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

val bundleDir = providers.gradleProperty("bundleDir").getOrElse("$rootDir/bundle")
val modelName = providers.gradleProperty("modelName").getOrElse("digits_mobilenet_v1")

android {
    namespace = "org.edgesparse.example"
    compileSdk = 35
    ndkVersion = "27.2.12479018"

    defaultConfig {
        applicationId = "org.edgesparse.example"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
        ndk { abiFilters += "arm64-v8a" }
        externalNativeBuild {
            cmake { arguments += listOf("-DBUNDLE=$bundleDir", "-DMODEL=$modelName") }
        }
    }

    externalNativeBuild {
        cmake {
            path = file("src/main/cpp/CMakeLists.txt")
            version = "3.22.1"
        }
    }

    // A compressed asset cannot be mapped.
    androidResources { noCompress += "bin" }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions { jvmTarget = "17" }
}
