/* The header alone, twice, in a translation unit of C99. */
#include <sabrewing/sabrewing.h>
#include <sabrewing/sabrewing.h>

typedef char status_fits[sizeof(sabrewing_status) == sizeof(int32_t) ? 1 : -1];

uint32_t header_version(void);
uint32_t header_version(void) { return SABREWING_ABI_VERSION; }
