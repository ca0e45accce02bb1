//! The files of the built-in providers, compiled in from `catalogue/*.yaml`. `build.rs` lists them with the parts that
//! are needed of all providers at once.

/// A file of the catalogue, as `build.rs` writes it.
#[derive(Debug)]
pub(super) struct BuiltInFile {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    pub(super) hosts: &'static [&'static str],
    pub(super) variables: &'static [FileVariable],
    /// URLs where nothing is injected, on any host.
    pub(super) endpoints: &'static [&'static str],
    pub(super) text: &'static str,
}

/// A variable of hosts, without its texts for people.
#[derive(Debug)]
pub(super) struct FileVariable {
    pub(super) name: &'static str,
    pub(super) is_host: bool,
    pub(super) default: Option<&'static str>,
    pub(super) choices: &'static [&'static str],
}

/// All files, sorted by id.
pub(super) static FILES: &[BuiltInFile] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The file of the provider with this id.
pub(super) fn file(id: &str) -> Option<&'static BuiltInFile> {
    FILES.binary_search_by(|file| file.id.cmp(id)).ok().map(|at| &FILES[at])
}
