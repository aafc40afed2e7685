# sabrewing_embed(TARGET SYMBOL file...): embeds text files into TARGET as
#   namespace sabrewing::embedded { extern const EmbeddedFile SYMBOL[]; extern const std::size_t SYMBOLCount; }
# with paths relative to the calling source folder. The declaration is in core/embedded.h.
function(sabrewing_embed target symbol)
  set(out "${CMAKE_CURRENT_BINARY_DIR}/${symbol}.embedded.cpp")
  set(depends "")
  foreach(file ${ARGN})
    list(APPEND depends "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  endforeach()
  add_custom_command(
    OUTPUT "${out}"
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DSYMBOL=${symbol} -DROOT=${CMAKE_CURRENT_SOURCE_DIR}
            "-DFILES=${ARGN}" -P "${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake"
    DEPENDS ${depends} "${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake"
    VERBATIM)
  set_source_files_properties("${out}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  target_sources(${target} PRIVATE "${out}")
endfunction()
