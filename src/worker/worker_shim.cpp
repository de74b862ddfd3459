// The project's one C++ file. DuckDB's C API can neither register a file system nor print one value
// of a nested vector; its C++ classes can, when headers and library are of the same version
// (checked at build and at start).

#include "worker_shim.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <duckdb/common/error_data.hpp>
#include <duckdb/common/file_system.hpp>
#include <duckdb/common/type_visitor.hpp>
#include <duckdb/common/types/value.hpp>
#include <duckdb/common/types/vector.hpp>
#include <duckdb/common/vector_operations/vector_operations.hpp>
#include <duckdb/common/virtual_file_system.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_config.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/config.hpp>
#include <duckdb/main/connection.hpp>

using namespace duckdb;

namespace
{

class ShimHandle : public FileHandle
{
  public:
    ShimHandle(FileSystem &system, const string &path, FileOpenFlags flags,
               const shim_files &files_p, void *file_p)
        : FileHandle(system, path, flags), files(files_p), file(file_p)
    {
    }
    ~ShimHandle() override
    {
        Close();
    }
    void Close() override
    {
        if (file != nullptr) {
            files.close(file);
            file = nullptr;
        }
    }

    const shim_files &files;
    void *file;
    idx_t position = 0;
};

ShimHandle &Of(FileHandle &handle)
{
    return handle.Cast<ShimHandle>();
}

class ShimFileSystem : public FileSystem
{
  public:
    ShimFileSystem(const shim_files &files_p, vector<string> prefixes_p)
        : files(files_p), prefixes(std::move(prefixes_p))
    {
    }

    bool CanHandleFile(const string &path) override
    {
        for (auto &prefix : prefixes) {
            if (path.compare(0, prefix.size(), prefix) == 0) {
                return true;
            }
        }
        return false;
    }

    unique_ptr<FileHandle> OpenFile(const string &path, FileOpenFlags flags,
                                    optional_ptr<FileOpener>) override
    {
        char problem[SHIM_TEXT_SIZE] = "";
        void *file = files.open(files.context, path.c_str(), flags.OpenForWriting(), problem,
                                sizeof(problem));
        if (file == nullptr) {
            throw IOException("%s", string(problem));
        }
        return make_uniq<ShimHandle>(*this, path, flags, files, file);
    }

    void Read(FileHandle &handle, void *buffer, int64_t size, idx_t location) override
    {
        char problem[SHIM_TEXT_SIZE] = "";
        if (!files.read(Of(handle).file, buffer, uint64_t(size), location, problem,
                        sizeof(problem))) {
            throw IOException("%s", string(problem));
        }
    }

    int64_t Read(FileHandle &handle, void *buffer, int64_t size) override
    {
        auto &mine = Of(handle);
        uint64_t whole = files.size(mine.file);
        uint64_t left = mine.position < whole ? whole - mine.position : 0;
        uint64_t taken = MinValue<uint64_t>(left, uint64_t(size));
        if (taken > 0) {
            Read(handle, buffer, int64_t(taken), mine.position);
            mine.position += taken;
        }
        return int64_t(taken);
    }

    void Write(FileHandle &handle, void *buffer, int64_t size, idx_t location) override
    {
        if (!files.write(Of(handle).file, buffer, uint64_t(size), location)) {
            throw IOException("the file would be larger than its limit");
        }
    }

    int64_t Write(FileHandle &handle, void *buffer, int64_t size) override
    {
        auto &mine = Of(handle);
        Write(handle, buffer, size, mine.position);
        mine.position += idx_t(size);
        return size;
    }

    int64_t GetFileSize(FileHandle &handle) override
    {
        return int64_t(files.size(Of(handle).file));
    }
    timestamp_t GetLastModifiedTime(FileHandle &) override
    {
        return timestamp_t(0);
    }
    FileType GetFileType(FileHandle &) override
    {
        return FileType::FILE_TYPE_REGULAR;
    }
    // Asked before an input is opened (open says what is wrong with it) and before an output is
    // made: the output is ours alone, so it never stands in the way.
    bool FileExists(const string &path, optional_ptr<FileOpener>) override
    {
        return path.compare(0, 6, "job://") != 0;
    }
    bool IsPipe(const string &, optional_ptr<FileOpener>) override
    {
        return false;
    }
    bool DirectoryExists(const string &, optional_ptr<FileOpener>) override
    {
        return false;
    }
    void RemoveFile(const string &, optional_ptr<FileOpener>) override
    {
    }
    bool TryRemoveFile(const string &, optional_ptr<FileOpener>) override
    {
        return true;
    }
    void FileSync(FileHandle &) override
    {
    }
    void Seek(FileHandle &handle, idx_t location) override
    {
        Of(handle).position = location;
    }
    idx_t SeekPosition(FileHandle &handle) override
    {
        return Of(handle).position;
    }
    bool CanSeek() override
    {
        return true;
    }
    bool OnDiskFile(FileHandle &) override
    {
        return false;
    }
    // Paths are exact: a star in a key is a star.
    vector<OpenFileInfo> Glob(const string &path, FileOpener *) override
    {
        vector<OpenFileInfo> one;
        one.emplace_back(path);
        return one;
    }
    string PathSeparator(const string &) override
    {
        return "/";
    }
    string GetName() const override
    {
        return "eider";
    }

  private:
    shim_files files;
    vector<string> prefixes;
};

void FlattenParts(Vector &vector, idx_t rows)
{
    vector.Flatten(rows);
    switch (vector.GetType().InternalType()) {
    case PhysicalType::STRUCT:
        for (auto &part : StructVector::GetEntries(vector)) {
            FlattenParts(*part, rows);
        }
        break;
    case PhysicalType::LIST:
        FlattenParts(ListVector::GetEntry(vector), ListVector::GetListSize(vector));
        break;
    case PhysicalType::ARRAY:
        FlattenParts(ArrayVector::GetEntry(vector), rows * ArrayType::GetSize(vector.GetType()));
        break;
    default:
        break;
    }
}

void SetGlobalOption(DatabaseInstance &instance, const char *name, const Value &value)
{
    auto &config = DBConfig::GetConfig(instance);
    auto option = DBConfig::GetOptionByName(name);
    if (!option) {
        throw InvalidInputException("the engine has no setting %s", name);
    }
    if (option->set_global) {
        config.SetOption(&instance, *option, value);
    } else {
        config.SetOption(string(name), value);
    }
}

bool IsLocked(DatabaseInstance &instance)
{
    try {
        DBConfig::GetConfig(instance).CheckLock("threads");
        return false;
    } catch (...) {
        return true;
    }
}

} // namespace

extern "C" bool shim_register_files(duckdb_database database, const shim_files *files,
                                    const char *const *prefixes, size_t prefixes_count)
{
    try {
        auto wrapper = reinterpret_cast<DatabaseWrapper *>(database);
        vector<string> names(prefixes, prefixes + prefixes_count);
        wrapper->database->instance->GetFileSystem().RegisterSubSystem(
            make_uniq<ShimFileSystem>(*files, std::move(names)));
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_forget_file_names(duckdb_database database)
{
    try {
        auto wrapper = reinterpret_cast<DatabaseWrapper *>(database);
        DBConfig::GetConfig(*wrapper->database->instance).replacement_scans.clear();
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_lock_limits(duckdb_database database, uint64_t memory_bytes, unsigned threads,
                                 char *problem, size_t size)
{
    try {
        auto &instance = *reinterpret_cast<DatabaseWrapper *>(database)->database->instance;
        SetGlobalOption(instance, "memory_limit", Value(std::to_string(memory_bytes) + "B"));
        SetGlobalOption(instance, "threads", Value::BIGINT(int64_t(threads)));
        SetGlobalOption(instance, "lock_configuration", Value::BOOLEAN(true));
        if (!IsLocked(instance)) {
            throw InternalException("the configuration does not stay locked");
        }
        return true;
    } catch (std::exception &error) {
        (void)snprintf(problem, size, "%s", ErrorData(error).RawMessage().c_str());
        return false;
    } catch (...) {
        (void)snprintf(problem, size, "unknown");
        return false;
    }
}

extern "C" bool shim_count_progress(duckdb_connection connection)
{
    try {
        auto &config =
            ClientConfig::GetConfig(*reinterpret_cast<Connection *>(connection)->context);
        config.enable_progress_bar = true;
        config.print_progress_bar = false;
        config.wait_time = 0;
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_value_text(duckdb_vector vector_p, uint64_t row,
                                void (*append)(void *, const char *, size_t), void *context)
{
    try {
        auto text = reinterpret_cast<Vector *>(vector_p)->GetValue(row).ToString();
        append(context, text.data(), text.size());
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_flatten(duckdb_vector vector, uint64_t rows)
{
    try {
        FlattenParts(*reinterpret_cast<Vector *>(vector), rows);
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_cast(duckdb_vector from, duckdb_vector into, uint64_t rows,
                          char problem[SHIM_TEXT_SIZE])
{
    try {
        auto &result = *reinterpret_cast<Vector *>(into);
        VectorOperations::DefaultCast(*reinterpret_cast<Vector *>(from), result, rows);
        FlattenParts(result, rows);
        return true;
    } catch (std::exception &caught) {
        (void)snprintf(problem, SHIM_TEXT_SIZE, "%s", ErrorData(caught).RawMessage().c_str());
        return false;
    }
}

extern "C" duckdb_logical_type shim_parquet_type(duckdb_logical_type type)
{
    auto keep = [](const LogicalType &part) -> LogicalType {
        switch (part.id()) {
        case LogicalTypeId::HUGEINT:
            return LogicalType::DECIMAL(38, 0);
        case LogicalTypeId::SQLNULL:
            return LogicalType::INTEGER;
        case LogicalTypeId::ARRAY:
            return LogicalType::LIST(ArrayType::GetChildType(part));
        case LogicalTypeId::UHUGEINT:
        case LogicalTypeId::BIGNUM:
        case LogicalTypeId::BIT:
        case LogicalTypeId::INTERVAL:
        case LogicalTypeId::TIME_TZ:
        case LogicalTypeId::TIME_NS:
        case LogicalTypeId::UNION:
        case LogicalTypeId::VARIANT:
            return LogicalType::VARCHAR;
        default:
            return part;
        }
    };
    auto &mine = *reinterpret_cast<LogicalType *>(type);
    return reinterpret_cast<duckdb_logical_type>(
        new LogicalType(TypeVisitor::VisitReplace(mine, keep)));
}

static LogicalType LineType(const LogicalType &type)
{
    switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::USMALLINT:
    case LogicalTypeId::UINTEGER:
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::FLOAT:
    case LogicalTypeId::DOUBLE:
    case LogicalTypeId::DATE:
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
    case LogicalTypeId::TIMESTAMP_TZ:
        return LogicalType(type.id());
    case LogicalTypeId::DECIMAL:
        return LogicalType::DECIMAL(DecimalType::GetWidth(type), DecimalType::GetScale(type));
    case LogicalTypeId::LIST:
        return LogicalType::LIST(LineType(ListType::GetChildType(type)));
    case LogicalTypeId::ARRAY:
        return LogicalType::LIST(LineType(ArrayType::GetChildType(type)));
    case LogicalTypeId::MAP:
        return LogicalType::MAP(LogicalType::VARCHAR, LineType(MapType::ValueType(type)));
    case LogicalTypeId::STRUCT: {
        child_list_t<LogicalType> parts;
        for (auto &part : StructType::GetChildTypes(type)) {
            parts.emplace_back(part.first, LineType(part.second));
        }
        return LogicalType::STRUCT(std::move(parts));
    }
    default:
        return LogicalType::VARCHAR;
    }
}

extern "C" duckdb_logical_type shim_line_type(duckdb_logical_type type)
{
    return reinterpret_cast<duckdb_logical_type>(
        new LogicalType(LineType(*reinterpret_cast<LogicalType *>(type))));
}

extern "C" bool shim_type_text(duckdb_logical_type type,
                               void (*append)(void *, const char *, size_t), void *context)
{
    try {
        auto text = reinterpret_cast<LogicalType *>(type)->ToString();
        append(context, text.data(), text.size());
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_types_equal(duckdb_logical_type a, duckdb_logical_type b)
{
    return *reinterpret_cast<LogicalType *>(a) == *reinterpret_cast<LogicalType *>(b);
}

extern "C" size_t shim_shortest_digits(double value, char digits[SHIM_DIGITS_SIZE],
                                       int *ret_exponent)
{
    char text[64];
    auto end = std::to_chars(text, text + sizeof(text) - 1, value, std::chars_format::scientific);
    *end.ptr = '\0';
    char *mark = static_cast<char *>(memchr(text, 'e', size_t(end.ptr - text)));
    size_t count = 0;
    for (char *c = text; c < mark; c++) {
        if (*c != '.') {
            digits[count++] = *c;
        }
    }
    while (count > 1 && digits[count - 1] == '0') {
        count--;
    }
    *ret_exponent = int(strtol(mark + 1, nullptr, 10)) + 1;
    return count;
}

extern "C" char *shim_put_double(char *at, double value)
{
    return std::to_chars(at, at + SHIM_DIGITS_SIZE, value).ptr;
}

extern "C" char *shim_put_float(char *at, float value)
{
    return std::to_chars(at, at + SHIM_DIGITS_SIZE, value).ptr;
}
