// What the example of the guide uses of LiteRT 2, without bodies.
package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

abstract class TensorBuffer : AutoCloseable {
    abstract fun writeFloat(data: FloatArray)
    abstract fun writeInt8(data: ByteArray)
    abstract fun readFloat(): FloatArray
    abstract fun readInt8(): ByteArray
}

abstract class CompiledModel : AutoCloseable {
    class Options(vararg val accelerators: Accelerator)

    abstract fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer>
    abstract fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer>
    abstract fun run(
        inputs: List<TensorBuffer>,
        outputs: List<TensorBuffer>,
        signatureIndex: Int = 0,
    )

    companion object {
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options,
        ): CompiledModel = TODO()
    }
}
