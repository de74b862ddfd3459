// A file system made of functions, and databases that are opened through it: the C API can neither
// register the one nor open the other. Same rules as worker_shim.cpp.

#include "worker_shim.h"

#include <cstdio>
#include <cstring>
#include <duckdb/common/checksum.hpp>
#include <duckdb/common/error_data.hpp>
#include <duckdb/common/file_opener.hpp>
#include <duckdb/common/file_system.hpp>
#include <duckdb/common/virtual_file_system.hpp>
#include <duckdb/main/attached_database.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/config.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/main/database_manager.hpp>
#include <duckdb/parser/parsed_data/attach_info.hpp>
#include <duckdb/storage/storage_info.hpp>

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
        // Appending begins where the file ends, and goes on from there: nobody else writes to it.
        if (flags.OpenForAppending()) {
            position = files.size(file);
        }
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

unsigned FlagsOf(const FileOpenFlags &flags)
{
    unsigned result = flags.OpenForWriting() ? SHIM_OPEN_WRITE : 0;
    result |= flags.CreateFileIfNotExists() ? SHIM_OPEN_CREATE : 0;
    result |= flags.OverwriteExistingFile() ? SHIM_OPEN_CREATE | SHIM_OPEN_TRUNCATE : 0;
    return result;
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
                                    optional_ptr<FileOpener> opener) override
    {
        char problem[SHIM_TEXT_SIZE] = "";
        struct shim_open how = {FlagsOf(flags), FileOpener::TryGetClientContext(opener).get()};
        void *file = files.open(files.context, path.c_str(), &how, problem, sizeof(problem));
        if (file == nullptr && problem[0] == '\0' && flags.ReturnNullIfNotExists()) {
            return nullptr;
        }
        if (file == nullptr) {
            throw IOException("%s", string(problem[0] == '\0' ? "the file is not there" : problem));
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
            throw IOException("the file would be larger than its limit, or the disk is full");
        }
    }

    int64_t Write(FileHandle &handle, void *buffer, int64_t size) override
    {
        auto &mine = Of(handle);
        Write(handle, buffer, size, mine.position);
        mine.position += idx_t(size);
        return size;
    }

    void Truncate(FileHandle &handle, int64_t size) override
    {
        auto &mine = Of(handle);
        if (files.truncate == nullptr || !files.truncate(mine.file, uint64_t(size))) {
            throw IOException("the file cannot be made shorter");
        }
        if (mine.flags.OpenForAppending()) {
            mine.position = idx_t(size);
        }
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

    // A job's files are asked for before an input is opened (open says what is wrong with it) and
    // before an output is made: the output is the job's alone, so it never stands in the way.
    bool FileExists(const string &path, optional_ptr<FileOpener> opener) override
    {
        return IsStored(path) ? Change(SHIM_EXISTS, path, string(), opener)
                              : path.compare(0, 6, "job://") != 0;
    }
    void RemoveFile(const string &path, optional_ptr<FileOpener> opener) override
    {
        if (IsStored(path) && !Change(SHIM_REMOVE, path, string(), opener)) {
            throw IOException("the file is not there");
        }
    }
    bool TryRemoveFile(const string &path, optional_ptr<FileOpener> opener) override
    {
        return !IsStored(path) || Change(SHIM_REMOVE, path, string(), opener);
    }
    void MoveFile(const string &from, const string &to, optional_ptr<FileOpener> opener) override
    {
        if (!IsStored(from) || !IsStored(to) || !Change(SHIM_MOVE, from, to, opener)) {
            throw IOException("the file cannot be moved");
        }
    }
    // Only the folder for what is spilled is asked for, and the server has made it.
    bool DirectoryExists(const string &path, optional_ptr<FileOpener>) override
    {
        return IsStored(path);
    }
    void CreateDirectory(const string &, optional_ptr<FileOpener>) override
    {
    }
    void RemoveDirectory(const string &, optional_ptr<FileOpener>) override
    {
    }
    bool ListFiles(const string &, const std::function<void(const string &, bool)> &,
                   FileOpener *) override
    {
        return false;
    }

    bool IsPipe(const string &, optional_ptr<FileOpener>) override
    {
        return false;
    }
    // A sync that fails may have dropped what it was to write: nothing may be built on that file
    // any more, so the engine shuts the database.
    void FileSync(FileHandle &handle) override
    {
        if (files.sync != nullptr && !files.sync(Of(handle).file)) {
            throw FatalException("what was written did not reach the disk");
        }
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
    // What is not on disk is fetched in larger pieces, and before it is wanted.
    bool OnDiskFile(FileHandle &handle) override
    {
        return IsStored(handle.path);
    }
    // Paths are exact: a star in a key is a star.
    vector<OpenFileInfo> Glob(const string &path, FileOpener *) override
    {
        vector<OpenFileInfo> one;
        one.emplace_back(path);
        return one;
    }
    string CanonicalizePath(const string &path, optional_ptr<FileOpener>) override
    {
        return path;
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
    bool IsStored(const string &path) const
    {
        return files.change != nullptr && path.compare(0, 5, "db://") == 0;
    }

    bool Change(enum shim_change change, const string &path, const string &to,
                optional_ptr<FileOpener> opener)
    {
        int result = FileOpener::TryGetClientContext(opener)
                         ? -1
                         : files.change(files.context, change, path.c_str(), to.c_str());
        if (result < 0) {
            throw IOException("a file of the database could not be looked up or changed");
        }
        return result > 0;
    }

    shim_files files;
    vector<string> prefixes;
};

unique_ptr<FileSystem> MakeFileSystem(const struct shim_files *files, const char *const *prefixes,
                                      size_t prefixes_count)
{
    return make_uniq<ShimFileSystem>(*files, vector<string>(prefixes, prefixes + prefixes_count));
}

void SetOptions(DBConfig &config, const struct shim_database *options)
{
    config.SetOptionByName("autoload_known_extensions", Value::BOOLEAN(false));
    config.SetOptionByName("autoinstall_known_extensions", Value::BOOLEAN(false));
    config.SetOptionByName("threads", Value::BIGINT(int64_t(options->threads)));
    config.SetOptionByName("memory_limit", Value(std::to_string(options->memory_bytes) + "B"));
    // The first that ties a log to its file: another file's log is not replayed into this one.
    config.SetOptionByName("storage_compatibility_version", Value("v1.4.0"));
    if (options->checkpoint_bytes > 0) {
        config.options.checkpoint_wal_size = options->checkpoint_bytes;
    }
    bool spill = options->temp_bytes_max > 0;
    config.options.use_temporary_directory = spill;
    config.SetOptionByName("temp_directory", Value(spill ? "db://tmp" : ""));
    if (spill) {
        config.options.maximum_swap_space = options->temp_bytes_max;
    }
}

void Attach(DuckDB &database, const string &name, const string &path, AccessMode mode)
{
    Connection connection(database);
    connection.BeginTransaction();
    AttachInfo info;
    info.name = name;
    info.path = path;
    AttachOptions how(database.instance->config.options);
    how.access_mode = mode;
    how.is_main_database = path != IN_MEMORY_PATH;
    database.instance->GetDatabaseManager().AttachDatabase(*connection.context, info, how);
    connection.Commit();
}

void MakeDefault(DuckDB &database, const string &name)
{
    Connection connection(database);
    connection.BeginTransaction();
    database.instance->GetDatabaseManager().SetDefaultDatabase(*connection.context, name);
    connection.Commit();
}

// Opens a file as the one database of an instance that has begun without it. The engine opens a
// file it begins with before there is a default database, so a log with an ALTER that has to be
// bound (a type changed USING an expression, a field of a STRUCT) is refused, though it is whole.
// The default database is a name: one in memory lends it until the file is there.
void OpenAsMain(DuckDB &database, const string &path, AccessMode mode)
{
    auto &manager = database.instance->GetDatabaseManager();
    const string first = AttachedDatabase::ExtractDatabaseName(
        IN_MEMORY_PATH, *database.instance->config.file_system);
    const string name =
        AttachedDatabase::ExtractDatabaseName(path, *database.instance->config.file_system);
    if (!StringUtil::CIEquals(name, first)) {
        Attach(database, name, IN_MEMORY_PATH, AccessMode::READ_WRITE);
        MakeDefault(database, name);
        manager.DetachInternal(name);
    }
    manager.DetachInternal(first);
    Attach(database, name, path, mode);
    database.instance->config.options.access_mode = mode;
    manager.FinalizeStartup();
}

duckdb_error_type TypeOf(const ErrorData &error)
{
    switch (error.Type()) {
    case ExceptionType::OUT_OF_MEMORY:
        return DUCKDB_ERROR_OUT_OF_MEMORY;
    case ExceptionType::IO:
        return DUCKDB_ERROR_IO;
    case ExceptionType::SERIALIZATION:
        return DUCKDB_ERROR_SERIALIZATION;
    default:
        return DUCKDB_ERROR_INTERNAL;
    }
}

} // namespace

extern "C" bool shim_register_files(duckdb_database database, const struct shim_files *files,
                                    const char *const *prefixes, size_t prefixes_count)
{
    try {
        auto wrapper = reinterpret_cast<DatabaseWrapper *>(database);
        wrapper->database->instance->GetFileSystem().RegisterSubSystem(
            MakeFileSystem(files, prefixes, prefixes_count));
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_open_database(const struct shim_database *options,
                                   duckdb_database *ret_database, duckdb_error_type *ret_type,
                                   char *problem, size_t size)
{
    try {
        static const char *const prefixes[] = {"db://", "job://"};
        DBConfig config;
        SetOptions(config, options);
        config.file_system = make_uniq<VirtualFileSystem>();
        config.file_system->RegisterSubSystem(MakeFileSystem(options->files, prefixes, 2));
        auto wrapper = make_uniq<DatabaseWrapper>();
        wrapper->database = make_shared_ptr<DuckDB>(IN_MEMORY_PATH, &config);
        OpenAsMain(*wrapper->database, options->path,
                   options->read_only ? AccessMode::READ_ONLY : AccessMode::READ_WRITE);
        *ret_database = reinterpret_cast<duckdb_database>(wrapper.release());
        return true;
    } catch (std::exception &error) {
        ErrorData data(error);
        *ret_type = TypeOf(data);
        (void)snprintf(problem, size, "%s", data.RawMessage().c_str());
    } catch (...) {
        *ret_type = DUCKDB_ERROR_INTERNAL;
        (void)snprintf(problem, size, "unknown");
    }
    return false;
}

extern "C" const void *shim_client(duckdb_connection connection)
{
    return reinterpret_cast<Connection *>(connection)->context.get();
}

extern "C" void shim_storage_versions(uint64_t *ret_least, uint64_t *ret_most,
                                      uint64_t *ret_compatibility)
{
    *ret_least = VERSION_NUMBER_LOWER;
    *ret_most = VERSION_NUMBER_UPPER;
    *ret_compatibility = SerializationCompatibility::Latest().serialization_version;
}

extern "C" uint64_t shim_checksum(const void *bytes, size_t size)
{
    return Checksum(static_cast<data_ptr_t>(const_cast<void *>(bytes)), size);
}
