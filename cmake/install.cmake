# cmake --install: the binary, libsabrewing with its header, and what lets pkg-config and CMake find them.
include(CMakePackageConfigHelpers)

install(TARGETS sabrewing RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(TARGETS sabrewing_shared EXPORT SabrewingTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT library)
install(FILES ${PROJECT_SOURCE_DIR}/include/sabrewing/sabrewing.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sabrewing COMPONENT library)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/NOTICE
        DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT library)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Sabrewing)
install(EXPORT SabrewingTargets NAMESPACE sabrewing:: DESTINATION ${package_folder} COMPONENT library)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/SabrewingConfig.cmake.in
  ${PROJECT_BINARY_DIR}/SabrewingConfig.cmake INSTALL_DESTINATION ${package_folder}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/SabrewingConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/SabrewingConfig.cmake ${PROJECT_BINARY_DIR}/SabrewingConfigVersion.cmake
        DESTINATION ${package_folder} COMPONENT library)

# Relative to the file itself, so that an installed tree can be moved.
file(RELATIVE_PATH pkgconfig_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/sabrewing.pc.in ${PROJECT_BINARY_DIR}/sabrewing.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/sabrewing.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)
