#ifndef RESHARD_BASE_JSON_MEMORY_H_
#define RESHARD_BASE_JSON_MEMORY_H_

#include <simdjson.h>

#include <new>

namespace reshard {

/// simdjson says that there is no memory as if it were a fault of the text; here it is std::bad_alloc,
/// as everywhere else. All other codes come back.
inline simdjson::error_code JsonFault(simdjson::error_code code) {
  if (code == simdjson::MEMALLOC) throw std::bad_alloc();
  return code;
}

}  // namespace reshard

#endif  // RESHARD_BASE_JSON_MEMORY_H_
