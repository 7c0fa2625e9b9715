"""Hard-concrete gates, layers that have them, one with sparse storage."""

from l0keras.gates import GateGenerator
from l0keras.gates import HardConcreteGate
from l0keras.gates import SharedGate
from l0keras.layers.gated_layer import GatedLayer
from l0keras.layers.l0_conv1d import L0Conv1D
from l0keras.layers.l0_conv2d import L0Conv2D
from l0keras.layers.l0_conv2d_transpose import L0Conv2DTranspose
from l0keras.layers.l0_conv3d import L0Conv3D
from l0keras.layers.l0_conv_lstm1d import L0ConvLSTM1D
from l0keras.layers.l0_conv_lstm2d import L0ConvLSTM2D
from l0keras.layers.l0_conv_lstm3d import L0ConvLSTM3D
from l0keras.layers.l0_dense import L0Dense
from l0keras.layers.l0_depthwise_conv2d import L0DepthwiseConv2D
from l0keras.layers.l0_einsum_dense import L0EinsumDense
from l0keras.layers.l0_embedding import L0Embedding
from l0keras.layers.l0_gru import L0GRU
from l0keras.layers.l0_lstm import L0LSTM
from l0keras.layers.l0_multi_head_attention import L0MultiHeadAttention
from l0keras.layers.l0_separable_conv2d import L0SeparableConv2D
from l0keras.layers.l0_simple_rnn import L0SimpleRNN
from l0keras.layers.sparse_dense import SparseDense

__all__ = [
    "GateGenerator",
    "GatedLayer",
    "HardConcreteGate",
    "L0Conv1D",
    "L0Conv2D",
    "L0Conv2DTranspose",
    "L0Conv3D",
    "L0ConvLSTM1D",
    "L0ConvLSTM2D",
    "L0ConvLSTM3D",
    "L0Dense",
    "L0DepthwiseConv2D",
    "L0EinsumDense",
    "L0Embedding",
    "L0GRU",
    "L0LSTM",
    "L0MultiHeadAttention",
    "L0SeparableConv2D",
    "L0SimpleRNN",
    "SharedGate",
    "SparseDense",
]
