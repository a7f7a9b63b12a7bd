# reshard_library(NAME [INTERNAL] SOURCES... [LINKS targets] [TESTS files])
#
# One folder of src/ is one static library with explicit links. TESTS become
# one GoogleTest program `<name>_test`, built in developer mode only. INTERNAL
# ones are not part of the installed library.
function(reshard_library name)
  cmake_parse_arguments(ARG "INTERNAL" "" "SOURCES;LINKS;PRIVATE_LINKS;TESTS;TEST_LINKS" ${ARGN})
  set(target reshard_${name})
  add_library(${target} STATIC ${ARG_SOURCES})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PUBLIC ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
  reshard_compile_options(${target})
  if(NOT ARG_INTERNAL)
    set_property(GLOBAL APPEND PROPERTY RESHARD_LIBRARIES ${target})
  endif()
  if(RESHARD_DEVELOPER_MODE AND ARG_TESTS)
    reshard_test(${name}_test SOURCES ${ARG_TESTS} LINKS ${target} ${ARG_TEST_LINKS})
  endif()
endfunction()

function(reshard_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
                         -Wno-missing-field-initializers)
  if(RESHARD_DEVELOPER_MODE)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(RESHARD_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${RESHARD_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${RESHARD_SANITIZE})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND RESHARD_SANITIZE STREQUAL "thread")
      # So instrumented, g++ 12 cannot follow std::optional (its manual warns of this for -fsanitize);
      # all other builds have the warning.
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # std::stable_sort of libstdc++ 12 calls std::get_temporary_buffer, which C++17 deprecates.
    target_compile_options(${target} PRIVATE -Wno-deprecated-declarations)
  endif()
  if(RESHARD_FUZZ)
    # Coverage of what decodes, not of the target's own few lines: that is what a fuzzer follows.
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# reshard_test(NAME SOURCES... LINKS...): one GoogleTest program, run by ctest.
function(reshard_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  find_package(GTest REQUIRED)
  find_package(rapidcheck REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  reshard_compile_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINKS} GTest::gmock GTest::gtest_main rapidcheck)
  target_compile_definitions(${name} PRIVATE
    RESHARD_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  add_test(NAME ${name} COMMAND ${name})
endfunction()
