# Sources that come from a Python package index. The archives lie in SABREWING_SOURCES; one that is missing there is
# fetched with pip, from whatever index pip is configured for, and nothing is used whose SHA-256 differs from the pin.
# Without a network: put the same files into a folder and name it in SABREWING_SOURCES.
if(NOT DEFINED SABREWING_SOURCES)
  set(SABREWING_SOURCES "${CMAKE_BINARY_DIR}/sources" CACHE PATH "Folder of the archives that come from PyPI")
endif()

# sabrewing_pypi_archive(NAME VERSION SHA256 OUT): sets OUT to the path of NAME-VERSION.tar.gz, the source distribution.
function(sabrewing_pypi_archive name version sha256 out)
  set(archive "${SABREWING_SOURCES}/${name}-${version}.tar.gz")
  if(NOT EXISTS "${archive}")
    find_program(SABREWING_PYTHON NAMES python3 python REQUIRED)
    set(pins "${CMAKE_CURRENT_BINARY_DIR}/${name}-pin.txt")
    file(WRITE "${pins}" "${name}==${version} --hash=sha256:${sha256}\n")
    message(STATUS "Fetching ${name} ${version} with pip")
    execute_process(
      COMMAND "${SABREWING_PYTHON}" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --no-binary
              ${name} --require-hashes --requirement "${pins}" --dest "${SABREWING_SOURCES}"
      RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    file(REMOVE "${pins}")
    if(NOT status EQUAL 0 OR NOT EXISTS "${archive}")
      message(FATAL_ERROR "pip could not fetch ${name} ${version}:\n${output}\n"
        "Without a network: put ${name}-${version}.tar.gz into a folder and name it in SABREWING_SOURCES.")
    endif()
  endif()
  file(SHA256 "${archive}" have)
  if(NOT have STREQUAL sha256)
    message(FATAL_ERROR "${archive} is not the pinned file: SHA-256 ${have}, expected ${sha256}. Remove it to fetch it again.")
  endif()
  set(${out} "${archive}" PARENT_SCOPE)
endfunction()
