# `cmake --install`: the program, the public headers, one static library, the recipes, and the CMake
# package that finds them. docs/ and README.md say how it is used; tests/python/test_install.py does.
include(CMakePackageConfigHelpers)

# The folders' libraries as one archive: what depends on reshard knows nothing of its folders.
add_library(libreshard STATIC)
add_library(reshard::reshard ALIAS libreshard)
get_property(folders GLOBAL PROPERTY RESHARD_LIBRARIES)
foreach(folder IN LISTS folders)
  target_sources(libreshard PRIVATE $<TARGET_OBJECTS:${folder}>)
endforeach()
set_target_properties(libreshard PROPERTIES
  OUTPUT_NAME reshard EXPORT_NAME reshard LINKER_LANGUAGE CXX)
target_compile_features(libreshard INTERFACE cxx_std_23)
target_include_directories(libreshard INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# What the objects need when a program is linked. No public header needs any of it. Keep this, the
# folders' links and reshardConfig.cmake.in alike.
target_link_libraries(libreshard PRIVATE
  Threads::Threads ZLIB::ZLIB simdjson::simdjson
  PkgConfig::pcre2 PkgConfig::xxhash PkgConfig::zstd)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/reshard)
install(TARGETS reshard)
install(TARGETS libreshard EXPORT reshardTargets)
install(DIRECTORY include/reshard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)
install(DIRECTORY recipes/ DESTINATION ${CMAKE_INSTALL_DATADIR}/reshard/recipes
        FILES_MATCHING PATTERN *.toml)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(EXPORT reshardTargets NAMESPACE reshard:: DESTINATION ${package_dir})
configure_package_config_file(cmake/reshardConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/reshardConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/reshardConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/reshardConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/reshardConfigVersion.cmake
        DESTINATION ${package_dir})
