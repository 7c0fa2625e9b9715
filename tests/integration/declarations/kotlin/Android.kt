// What the example of the guide uses of Android, without bodies.
package android.content

import android.content.res.AssetManager

abstract class Context {
    abstract val assets: AssetManager
}
