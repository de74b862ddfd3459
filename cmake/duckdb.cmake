# Finds the DuckDB library and headers, checks them, and defines the target `duckdb`.
#   DUCKDB_DIR      the folder to take them from; tools/build.sh passes the fetched one
#   DUCKDB_PINNED   it is the fetched one, so the library must have the pinned digest
# Sets DUCKDB_VERSION, DUCKDB_SHA256 (of the library) and DUCKDB_LIBRARY_DIR.
# A folder of the user's own may hold any release (lib/ and include/, or everything flat): its digest
# is taken as found. In both cases library and headers must be of one version, since the C++
# interface makes no other promise.

set(DUCKDB_DIR "$ENV{DUCKDB_DIR}" CACHE PATH "folder with libduckdb.so and its headers")
option(DUCKDB_PINNED "DUCKDB_DIR must hold the pinned library" OFF)
set(DUCKDB_PIN_FILE "${CMAKE_CURRENT_LIST_DIR}/duckdb-pin.env")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${DUCKDB_PIN_FILE}")

function(duckdb_read_pin key ret_value)
    file(STRINGS "${DUCKDB_PIN_FILE}" line REGEX "^${CMAKE_HOST_SYSTEM_PROCESSOR}_${key}=")
    string(REGEX REPLACE "^[^=]*=" "" value "${line}")
    set(${ret_value} "${value}" PARENT_SCOPE)
endfunction()

# The version that the headers say they are: macros of duckdb.h (from 1.5.6 on), macros of a
# single-file duckdb.hpp, or the VERSION file that tools/duckdb.sh leaves.
function(duckdb_headers_version ret_version)
    foreach(candidate "duckdb.h;DUCKDB_API_VERSION_;" "duckdb.hpp;DUCKDB_;_VERSION")
        list(GET candidate 0 header)
        list(GET candidate 1 prefix)
        list(GET candidate 2 suffix)
        set(numbers)
        if(NOT EXISTS "${DUCKDB_INCLUDE_DIR}/${header}")
            continue()
        endif()
        foreach(part MAJOR MINOR PATCH)
            file(STRINGS "${DUCKDB_INCLUDE_DIR}/${header}" line LIMIT_COUNT 1
                REGEX "^#define ${prefix}${part}${suffix} \"?[0-9]+\"?$")
            if(line MATCHES "([0-9]+)\"?$")
                list(APPEND numbers ${CMAKE_MATCH_1})
            endif()
        endforeach()
        list(LENGTH numbers count)
        if(count EQUAL 3)
            list(JOIN numbers "." version)
            set(${ret_version} "${version}" PARENT_SCOPE)
            return()
        endif()
    endforeach()
    set(version "unknown")
    if(EXISTS "${DUCKDB_DIR}/VERSION")
        file(STRINGS "${DUCKDB_DIR}/VERSION" version LIMIT_COUNT 1)
    endif()
    set(${ret_version} "${version}" PARENT_SCOPE)
endfunction()

# The version that the library says it is.
function(duckdb_library_version ret_version)
    set(source "${CMAKE_BINARY_DIR}/duckdb_version.c")
    file(WRITE "${source}" "#include <stdio.h>\n#include <duckdb.h>\n"
        "int main(void) { puts(duckdb_library_version()); return 0; }\n")
    try_run(run_result compile_result "${CMAKE_BINARY_DIR}/duckdb_version" "${source}"
        CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${DUCKDB_INCLUDE_DIR}"
        LINK_LIBRARIES "${DUCKDB_LIBRARY}"
        COMPILE_OUTPUT_VARIABLE compile_output RUN_OUTPUT_VARIABLE run_output)
    if(NOT compile_result OR NOT run_result EQUAL 0)
        message(FATAL_ERROR "cannot use ${DUCKDB_LIBRARY}:\n${compile_output}${run_output}")
    endif()
    string(STRIP "${run_output}" version)
    string(REGEX REPLACE "^v" "" version "${version}")
    set(${ret_version} "${version}" PARENT_SCOPE)
endfunction()

if(NOT DUCKDB_DIR)
    message(FATAL_ERROR "DUCKDB_DIR is not set. `make build` fetches the pinned DuckDB and sets it; \
to use another, give the folder of its libduckdb.so and headers.")
endif()

# Not cached: DUCKDB_DIR may change between two configurations of one build folder.
unset(DUCKDB_LIBRARY CACHE)
unset(DUCKDB_INCLUDE_DIR CACHE)
find_file(DUCKDB_LIBRARY libduckdb.so PATHS "${DUCKDB_DIR}/lib" "${DUCKDB_DIR}"
    NO_DEFAULT_PATH NO_CACHE REQUIRED)
find_path(DUCKDB_INCLUDE_DIR duckdb.h
    PATHS "${DUCKDB_DIR}/include" "${DUCKDB_DIR}/src/include" "${DUCKDB_DIR}"
    NO_DEFAULT_PATH NO_CACHE REQUIRED)
get_filename_component(DUCKDB_INCLUDE_DIR "${DUCKDB_INCLUDE_DIR}" ABSOLUTE)
get_filename_component(DUCKDB_LIBRARY_DIR "${DUCKDB_LIBRARY}" DIRECTORY)
# A library that is replaced in place is looked at again.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    "${DUCKDB_LIBRARY}" "${DUCKDB_INCLUDE_DIR}/duckdb.h")

file(SHA256 "${DUCKDB_LIBRARY}" DUCKDB_SHA256)
duckdb_read_pin(VERSION pinned_version)
duckdb_read_pin(LIBRARY_SHA256 pinned_sha256)
duckdb_library_version(DUCKDB_VERSION)
duckdb_headers_version(headers_version)

if(DUCKDB_PINNED AND NOT DUCKDB_SHA256 STREQUAL pinned_sha256)
    message(FATAL_ERROR "${DUCKDB_LIBRARY} has digest ${DUCKDB_SHA256}, not the pinned \
${pinned_sha256}. Remove ${DUCKDB_DIR} and build again.")
endif()
if(headers_version STREQUAL "unknown")
    message(WARNING "the headers in ${DUCKDB_INCLUDE_DIR} do not say their version; they must be \
those of DuckDB ${DUCKDB_VERSION}. A file ${DUCKDB_DIR}/VERSION with that text says so.")
elseif(NOT headers_version STREQUAL DUCKDB_VERSION)
    message(FATAL_ERROR "the DuckDB library is ${DUCKDB_VERSION}, its headers are \
${headers_version}: both must be of one version (${DUCKDB_DIR})")
endif()

if(DUCKDB_SHA256 STREQUAL pinned_sha256)
    set(pinned_note "as pinned")
else()
    set(pinned_note "your own; ${pinned_version} is what Eider is tested with")
endif()
message(STATUS "DuckDB ${DUCKDB_VERSION} in ${DUCKDB_DIR} (${pinned_note})")

# Found by the linker as -lduckdb, so that the binary asks for the name and not for a path.
add_library(duckdb INTERFACE)
target_include_directories(duckdb SYSTEM INTERFACE "${DUCKDB_INCLUDE_DIR}")
target_link_directories(duckdb INTERFACE "${DUCKDB_LIBRARY_DIR}")
target_link_libraries(duckdb INTERFACE -lduckdb)
