// SwiftPM wants one translation unit; everything is `static inline` in the header.
#include "CLinux.h"
