package android.content.res

class AssetManager private constructor()
