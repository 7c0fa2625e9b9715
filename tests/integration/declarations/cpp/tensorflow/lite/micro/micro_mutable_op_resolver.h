// What the example of the guide uses of the resolver, without bodies. Some
// functions have further arguments with defaults in the library.
#pragma once

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {

class MicroOpResolver {
 public:
  virtual ~MicroOpResolver() = default;
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  MicroMutableOpResolver() = default;
  MicroMutableOpResolver(const MicroMutableOpResolver&) = delete;
  TfLiteStatus AddConv2D();
  TfLiteStatus AddDequantize();
  TfLiteStatus AddFullyConnected();
  TfLiteStatus AddGather();
  TfLiteStatus AddMaxPool2D();
  TfLiteStatus AddQuantize();
  TfLiteStatus AddReshape();
};

}  // namespace tflite
