# module(NAME [USES FOLDER...] [LIBRARIES TARGET...])
#   Makes src/NAME an object library whose #include "..." reaches its own folder and the folders named
#   after USES, and nothing else of ours: a wrong include does not compile. A folder may offer a part
#   of itself to others as FOLDER/public; its own files see both.
#   All modules are gathered in EIDER_MODULES, their folders in EIDER_INCLUDE_DIRS, the outside
#   libraries of each in EIDER_LIBRARIES_<name>.

# Our folders are searched for #include "x.h" only, so that no <err.h> of the system is hidden.
function(eider_include_folders target)
    foreach(folder ${ARGN})
        target_compile_options(${target} PRIVATE "SHELL:-iquote ${folder}")
    endforeach()
endfunction()

function(module name)
    cmake_parse_arguments(MODULE "" "" "USES;LIBRARIES" ${ARGN})
    set(folder "${PROJECT_SOURCE_DIR}/src/${name}")
    file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.c" "${folder}/*.cpp")
    set(own_folders "${folder}")
    if(IS_DIRECTORY "${folder}/public")
        list(APPEND own_folders "${folder}/public")
    endif()
    set_property(GLOBAL APPEND PROPERTY EIDER_INCLUDE_DIRS ${own_folders})
    set_property(GLOBAL PROPERTY EIDER_LIBRARIES_${name} ${MODULE_LIBRARIES})
    if(NOT sources)
        message(STATUS "module ${name}: no sources yet")
        return()
    endif()

    add_library(${name} OBJECT ${sources})
    target_link_libraries(${name} PRIVATE eider_flags ${MODULE_LIBRARIES})
    eider_include_folders(${name} ${own_folders})
    list(TRANSFORM MODULE_USES PREPEND "${PROJECT_SOURCE_DIR}/src/")
    eider_include_folders(${name} ${MODULE_USES})
    set_property(GLOBAL APPEND PROPERTY EIDER_MODULES ${name})
endfunction()
