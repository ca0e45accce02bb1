//! The file that keeps which `providers:` section was found sound, so that a start with the same section and the same program
//! reads none of it, also if other sections changed. Only a configuration whose providers have no error gets there, and only the
//! file's own text counts: after a change of the section or the program, everything is read as without the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::environment::{Environment, PREFIX};
use keyward_rules::provider::checked::{CheckedProvider, Facts};
use keyward_rules::provider::document::{Document, Problem, item_of};
use keyward_rules::provider::{Catalogue, Provider, check};

/// In the data directory.
const FILE: &str = "providers.checked";

/// Fewer providers are read faster than it takes to keep them.
pub(super) const KEPT_FROM: usize = 64;

const KEY: &str = "providers";

/// What the file keeps, below the SHA-256 of it.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// The program that checked.
    program: String,
    /// SHA-256 of the section.
    section: String,
    providers: Vec<KeptProvider>,
}

#[derive(Deserialize, Serialize)]
struct KeptProvider {
    facts: Facts,
    /// Its bytes in the section.
    at: Range<usize>,
}

/// A configuration whose providers were found sound.
pub(super) struct CheckedProviders {
    /// Its text with `providers: []` in place of the section; lines keep their numbers. The reader must find that key, since
    /// the section could stand inside of a text.
    pub(super) rest: String,
    /// The section's providers.
    pub(super) providers: Vec<Arc<CheckedProvider>>,
}

impl CheckedProviders {
    /// Those of the configuration `text`, if this program has found them sound.
    pub(super) fn find(text: &str, data: &Path, environment: &Environment) -> Option<Self> {
        let place = section(text)?;
        let kept = Kept::read(&data.join(FILE))?;
        let is_same = kept.program == program()?
            && kept.section == sha256(&text.as_bytes()[place.clone()])
            && !is_laid_over(environment);
        if !is_same {
            return None;
        }
        let section: Arc<str> = text[place.clone()].into();
        let provider = |it: KeptProvider| CheckedProvider::new(it.facts, &section, it.at, parse);
        let providers = kept.providers.into_iter().map(|it| provider(it).map(Arc::new));
        let providers = providers.collect::<Option<_>>()?;
        Some(Self { rest: without(text, &place), providers })
    }
}

/// Checks the providers of the configuration `text`, and keeps that they are sound. Returns whether they are kept now.
///
/// # Errors
/// The file cannot be written.
pub(super) fn keep(text: &str, data: &Path, environment: &Environment) -> io::Result<bool> {
    if is_laid_over(environment) || CheckedProviders::find(text, data, environment).is_some() {
        return Ok(false);
    }
    match (Kept::of(text), program()) {
        (Some(kept), Some(program)) => {
            Kept { program, ..kept }.write(&data.join(FILE)).map(|()| true)
        }
        _ => Ok(false),
    }
}

impl Kept {
    /// `None`: there are few providers, one is not sound, or the section and its items are no whole lines of the text.
    fn of(text: &str) -> Option<Self> {
        let document = Document::parse("", text).ok()?;
        let root = document.root().as_mapping()?;
        let items = root.get(KEY)?.as_sequence()?;
        if items.len() < KEPT_FROM {
            return None;
        }
        let mut problems = document.problems();
        let found = check::providers(&root[KEY], KEY, &Catalogue::built_in(), &mut problems);
        if problems.count() > 0 || found.len() != items.len() {
            return None;
        }
        let (place, places) = places(text, &document)?;
        let mut other = root.clone();
        other.insert(KEY.into(), Value::Sequence(Vec::new()));
        let rest = Document::parse("", &without(text, &place)).ok()?;
        let is_rest = *rest.root() == Value::Mapping(other);
        let of_section = &text[place];
        let is_item = |at: &Range<usize>, item: &Value| {
            let alone = of_section.get(at.clone()).map(|text| Document::parse("", text));
            let alone = alone.and_then(Result::ok);
            alone.is_some_and(|it| it.root().as_sequence().is_some_and(|it| *it == [item.clone()]))
        };
        if !is_rest || !places.iter().zip(items).all(|(at, item)| is_item(at, item)) {
            return None;
        }
        let kept = |(provider, at)| Some(KeptProvider { facts: Facts::of(provider)?, at });
        let providers = found.iter().zip(places).map(kept).collect::<Option<_>>()?;
        let section = sha256(of_section.as_bytes());
        Some(Self { program: String::new(), section, providers })
    }

    /// `None`: there is none, it is damaged, or another user may have written it.
    fn read(file: &Path) -> Option<Self> {
        let about = fs::metadata(file).ok()?;
        if about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
            return None;
        }
        let content = fs::read_to_string(file).ok()?;
        let (sum, rest) = content.split_once('\n')?;
        (sum == sha256(rest.as_bytes())).then(|| serde_json::from_str(rest).ok())?
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let rest = serde_json::to_string(self)?;
        let staged = file.with_extension("draft");
        let mut to = OpenOptions::new();
        let mut to = to.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        let written = write!(to, "{}\n{rest}", sha256(rest.as_bytes()));
        let written = written.and_then(|()| fs::rename(&staged, file));
        if written.is_err() {
            // The first error counts more than that it cannot be removed.
            drop(fs::remove_file(&staged));
        }
        written
    }
}

/// The whole lines of the section: from `providers:` alone on its line to the next key at the top level.
fn section(text: &str) -> Option<Range<usize>> {
    let begins = |line: &str| {
        let rest = line.strip_prefix(KEY).and_then(|rest| rest.strip_prefix(':'));
        rest.map(str::trim).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    };
    let (mut begin, mut end) = (None, 0);
    for line in text.split_inclusive('\n') {
        match begin {
            None if begins(line) => begin = Some(end),
            Some(_) if !line.starts_with([' ', '#', '-', '\r', '\n']) => break,
            _ => {}
        }
        end += line.len();
    }
    Some(begin?..end)
}

/// The bytes of the section, and those of its items in it, as whole lines.
fn places(text: &str, document: &Document) -> Option<(Range<usize>, Vec<Range<usize>>)> {
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    let start = |path: &str| starts.get(document.line_of(path)?.checked_sub(1)?).copied();
    let section = section(text).filter(|section| start(KEY) == Some(section.start))?;
    let items = document.root().get(KEY)?.as_sequence()?.len();
    let begins = (0..items).map(|index| start(&item_of(KEY, index))?.checked_sub(section.start));
    let begins: Vec<usize> = begins.collect::<Option<_>>()?;
    let ends = begins.iter().skip(1).copied().chain([section.len()]);
    let places = begins.iter().zip(ends).map(|(begin, end)| *begin..end).collect();
    Some((section, places))
}

/// Parses the text of a provider, at its first use.
fn parse(name: &str, text: &str) -> Result<Vec<Provider>, Vec<Problem>> {
    check::file(name, text, &Catalogue::built_in())
}

/// The text with an empty list and empty lines for the section.
fn without(text: &str, section: &Range<usize>) -> String {
    let lines = text[section.clone()].matches('\n').count();
    [&text[..section.start], KEY, ": []", &"\n".repeat(lines), &text[section.end..]].concat()
}

/// Whether variables replace providers of the file.
fn is_laid_over(environment: &Environment) -> bool {
    let names = environment.beginning_with(PREFIX).into_iter().map(|it| it.name);
    let key = |name: &str| name[PREFIX.len()..].split("__").next().map(str::to_ascii_lowercase);
    names.map(|name| key(&name)).any(|key| key.as_deref() == Some(KEY))
}

/// Which program this is: its version, and its file, which each build writes.
fn program() -> Option<String> {
    let about = fs::metadata(std::env::current_exe().ok()?).ok()?;
    let (version, size) = (env!("CARGO_PKG_VERSION"), about.len());
    Some(format!("{version} {size} {}.{:09}", about.mtime(), about.mtime_nsec()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
