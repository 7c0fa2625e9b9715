"""The papers' networks, plain or with gates."""

from l0keras.models.cifar_cnn import cifar_cnn
from l0keras.models.densenet import densenet
from l0keras.models.lenet5 import lenet5
from l0keras.models.lstm import lstm
from l0keras.models.mlp import mlp
from l0keras.models.mobilenet_v1 import mobilenet_v1
from l0keras.models.resnet import resnet
from l0keras.models.resnet18 import resnet18
from l0keras.models.resnet50 import resnet50
from l0keras.models.vgg import vgg
from l0keras.models.vgg import vgg16
from l0keras.models.wide_resnet import wide_resnet

__all__ = [
    "cifar_cnn",
    "densenet",
    "lenet5",
    "lstm",
    "mlp",
    "mobilenet_v1",
    "resnet",
    "resnet18",
    "resnet50",
    "vgg",
    "vgg16",
    "wide_resnet",
]
