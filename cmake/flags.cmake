# Defines the target `eider_flags`: language, warnings, hardening, sanitizers. Everything that is
# compiled here links to it. Assertions stay on in every flavour.
#   EIDER_WERROR     warnings are errors (our presets only)
#   EIDER_SANITIZE   a value for -fsanitize=, empty for none

option(EIDER_WERROR "treat warnings as errors" OFF)
set(EIDER_SANITIZE "" CACHE STRING "value for -fsanitize=, empty for none")

include(CheckCCompilerFlag)
include(CheckCXXCompilerFlag)

set(CMAKE_C_STANDARD 17)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Replaces CMake's own, which define NDEBUG.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_SANITIZE "-O1 -g")
set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g")
if("${CMAKE_C_FLAGS} ${CMAKE_CXX_FLAGS} ${CMAKE_C_FLAGS_${CMAKE_BUILD_TYPE}}" MATCHES "NDEBUG")
    message(FATAL_ERROR "assertions are part of the server: build without NDEBUG")
endif()

add_library(eider_flags INTERFACE)
target_compile_definitions(eider_flags INTERFACE _GNU_SOURCE)

# Adds the flags that the compiler of that language knows; LANGUAGE is C or CXX.
# clang takes some flags of other machines with a mere warning, hence -Werror in the trial.
function(eider_add_flags language)
    set(CMAKE_REQUIRED_FLAGS -Werror)
    foreach(flag ${ARGN})
        string(MAKE_C_IDENTIFIER "has_${language}_${flag}" known)
        if(language STREQUAL "C")
            check_c_compiler_flag("${flag}" ${known})
        else()
            check_cxx_compiler_flag("${flag}" ${known})
        endif()
        if(${known})
            target_compile_options(eider_flags INTERFACE $<$<COMPILE_LANGUAGE:${language}>:${flag}>)
        endif()
    endforeach()
endfunction()

set(CMAKE_REQUIRED_QUIET ON)
set(flags_of_both -Wall -Wextra -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2
    -Wundef -Wvla -Wimplicit-fallthrough -Wnull-dereference -Wdouble-promotion -Wthread-safety
    -fno-omit-frame-pointer -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
    -mbranch-protection=standard -fstrict-flex-arrays=3 -ftrivial-auto-var-init=zero)
# gcc 12 crashes on DuckDB's headers when it looks for duplicated conditions in C++.
set(flags_of_c -Wshadow -Wconversion -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes
    -Wold-style-definition -Wduplicated-cond -Wlogical-op)
if(EIDER_WERROR)
    list(PREPEND flags_of_both -Werror)
endif()
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
    # clang counts the fields that libseccomp's macros leave out, and takes a text that is split
    # over two lines of a table for a comma that was forgotten.
    list(APPEND flags_of_c -Wno-missing-field-initializers -Wno-string-concatenation)
endif()
eider_add_flags(C ${flags_of_both} ${flags_of_c})
eider_add_flags(CXX ${flags_of_both})

if(EIDER_SANITIZE)
    # _FORTIFY_SOURCE would take the checked functions out of the sanitizer's sight. The engine's
    # library is not instrumented, so its classes have no type information to compare (vptr).
    target_compile_options(eider_flags INTERFACE -fsanitize=${EIDER_SANITIZE}
        -fno-sanitize-recover=all $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=vptr>)
    string(REPLACE "fuzzer-no-link," "" link_sanitizers "${EIDER_SANITIZE}")
    target_link_options(eider_flags INTERFACE -fsanitize=${link_sanitizers})
else()
    target_compile_options(eider_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()

target_link_options(eider_flags INTERFACE LINKER:-z,relro,-z,now,-z,noexecstack LINKER:--as-needed)
