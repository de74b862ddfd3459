# Run at build time: writes OUTPUT, a source with the word that tells this build from every other:
# a digest of all sources below SOURCES and of FLAVOUR. It is the same whenever, and wherever, the
# same is built again.
set(all "${FLAVOUR}\n")
file(GLOB_RECURSE files RELATIVE "${SOURCES}" "${SOURCES}/*.[ch]" "${SOURCES}/*.cpp")
foreach(file ${files})
    file(SHA256 "${SOURCES}/${file}" digest)
    string(APPEND all "${file} ${digest}\n")
endforeach()
string(SHA256 word "${all}")
string(SUBSTRING "${word}" 0 16 word)
file(WRITE "${OUTPUT}" "#include \"build_word.h\"\n\n"
    "const char *build_word(void)\n{\n    return \"${word}\";\n}\n")
