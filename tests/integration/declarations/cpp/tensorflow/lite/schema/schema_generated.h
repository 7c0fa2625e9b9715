// What the example of the guide uses of the schema, without bodies.
#pragma once

namespace tflite {

struct Model;

const Model* GetModel(const void* file);

}  // namespace tflite
