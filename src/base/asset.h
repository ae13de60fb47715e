/* Files that are part of the library: pages, their style and script. They lie in src/ROOM/assets; the build turns each into
 * bytes, so that nothing is read from a disk at run time. */
#ifndef BASE_ASSET_H
#define BASE_ASSET_H

#include <stddef.h>

typedef struct heed_asset {
    const char *text; /* ended by a zero that size does not count */
    size_t size;
} heed_asset;

#include <heed_assets.h> /* heed__asset_page_html for assets/page.html */

#endif
