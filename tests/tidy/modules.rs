//! The modules of one crate, and which file a path in one of them means. A name that a module re-exports is taken from the
//! file that declares it, so a re-export is no dependency of those who use it.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::paths::{Import, declared, names, paths, uses};

/// Longer chains of re-exports are a circle of their own.
const RE_EXPORTS_MAX: usize = 16;

/// A file of a crate.
struct Module {
    file: String,
    name: Vec<String>,
    imports: Vec<Import>,
    declared: BTreeSet<String>,
    /// Without imports and tests.
    code: String,
}

/// What a path leads to.
enum Place {
    Module(usize),
    /// An item that a module declares, and its name there.
    Item(usize, String),
}

pub(crate) struct Modules {
    modules: Vec<Module>,
    by_name: BTreeMap<Vec<String>, usize>,
    /// Where exported macros are declared, which are paths from the root.
    macros: BTreeMap<String, usize>,
}

/// Which files a file imports names from, and these names.
pub(crate) type Imported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

impl Modules {
    /// Of the sources of one crate; `src` is its folder, such as `crates/api/src/`.
    pub(crate) fn new(src: &str, sources: &[Source]) -> Self {
        let shipped = sources.iter().filter(|source| !source.shipped.trim().is_empty());
        let modules: Vec<Module> = shipped
            .filter_map(|source| Some((source, source.path.strip_prefix(src)?)))
            .filter(|(_, relative)| *relative != "main.rs")
            .map(|(source, relative)| {
                let (imports, code) = uses(&source.shipped);
                let (file, name) = (source.path.clone(), module_name(relative));
                Module { file, name, imports, declared: declared(&code), code }
            })
            .collect();
        let by_name = modules.iter().enumerate().map(|(at, it)| (it.name.clone(), at)).collect();
        let macros = modules.iter().enumerate().flat_map(|(at, module)| {
            let declared = module.code.split("macro_rules! ").skip(1);
            declared
                .map(move |rest| (rest.split([' ', '{']).next().unwrap_or_default().to_owned(), at))
        });
        Self { macros: macros.collect(), by_name, modules }
    }

    /// What each file imports from other files of the crate.
    pub(crate) fn imported(&self) -> Imported {
        let mut all = Imported::new();
        for (at, module) in self.modules.iter().enumerate() {
            let from = all.entry(module.file.clone()).or_default();
            for (path, goes_on) in self.written(module) {
                let Some(Place::Item(target, name)) = self.resolve(at, &path, goes_on, 0) else {
                    continue;
                };
                if target != at {
                    from.entry(self.modules[target].file.clone()).or_default().insert(name);
                }
            }
        }
        all
    }

    /// The paths that a module uses, and whether each continues where it is used, as that of a module does. What a module
    /// only re-exports, it does not use.
    fn written(&self, module: &Module) -> Vec<(Vec<String>, bool)> {
        let used = |import: &&Import| !import.is_public || names(&module.code, &import.name);
        let imported = module.imports.iter().filter(used).map(|import| {
            (import.path.clone(), module.code.contains(&format!("{}::", import.name)))
        });
        imported.chain(paths(&module.code).into_iter().map(|path| (path, false))).collect()
    }

    /// What a path means inside a module. If the path continues (`goes_on`), its last name is rather a module than a function
    /// of the same name.
    fn resolve(&self, at: usize, path: &[String], goes_on: bool, depth: usize) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        if depth > RE_EXPORTS_MAX {
            return None;
        }
        let mut place = match first.as_str() {
            "crate" => self.module(&[])?,
            "self" => Place::Module(at),
            "super" => self.above(at)?,
            name => self.local(at, name, goes_on || !rest.is_empty(), depth)?,
        };
        for (index, name) in rest.iter().enumerate() {
            let Place::Module(module) = place else { return Some(place) };
            place = match name.as_str() {
                "super" => self.above(module)?,
                "*" => Place::Item(module, "*".to_owned()),
                name => {
                    let goes_on = goes_on || index + 1 < rest.len();
                    self.local(module, name, goes_on, depth)
                        .unwrap_or_else(|| self.item(module, name))
                }
            };
        }
        Some(place)
    }

    /// What a name means inside a module, if it is neither declared there nor of another crate.
    fn local(&self, at: usize, name: &str, goes_on: bool, depth: usize) -> Option<Place> {
        let module = &self.modules[at];
        let child = || {
            let path: Vec<String> = module.name.iter().cloned().chain([name.to_owned()]).collect();
            self.module(&path)
        };
        let imported = || {
            let named = module.imports.iter().find(|import| import.name == name)?;
            // `use a::a` where `a` is a module, too.
            self.resolve(at, &named.path, goes_on, depth + 1)
        };
        let declared = || module.declared.contains(name).then(|| Place::Item(at, name.to_owned()));
        let globbed = || {
            let globs = module.imports.iter().filter(|import| import.name == "*");
            globs.filter_map(|glob| self.all_of(at, glob, name, depth)).next()
        };
        match goes_on {
            true => child().or_else(imported).or_else(declared).or_else(globbed),
            false => declared().or_else(imported).or_else(child).or_else(globbed),
        }
    }

    /// A name that `use path::*` brings into a module.
    fn all_of(&self, at: usize, glob: &Import, name: &str, depth: usize) -> Option<Place> {
        let path = &glob.path[..glob.path.len() - 1];
        match self.resolve(at, path, true, depth + 1)? {
            Place::Module(module) if module != at => self.local(module, name, false, depth + 1),
            _ => None,
        }
    }

    fn item(&self, at: usize, name: &str) -> Place {
        match self.macros.get(name) {
            Some(declared) if self.modules[at].name.is_empty() => {
                Place::Item(*declared, name.to_owned())
            }
            _ => Place::Item(at, name.to_owned()),
        }
    }

    fn above(&self, at: usize) -> Option<Place> {
        let (_, above) = self.modules[at].name.split_last()?;
        self.module(above)
    }

    fn module(&self, name: &[String]) -> Option<Place> {
        self.by_name.get(name).copied().map(Place::Module)
    }
}

/// `a/b/mod.rs` → `a`, `b`; `lib.rs` → nothing.
fn module_name(relative: &str) -> Vec<String> {
    let stem = relative.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" => vec![],
        stem => stem.split('/').map(str::to_owned).collect(),
    }
}
