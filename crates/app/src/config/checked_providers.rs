//! A file that records which items of `providers:` were valid, so that the next start of the same program parses only
//! items with another text. It is written only if the providers have no errors, and only the text of the file counts:
//! in any unusual case, everything is parsed without it.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::environment::{PREFIX, VariableSource};
use keyward_rules::provider::checked::{CheckedProvider, ProviderFacts};
use keyward_rules::provider::document::{Document, Problem, item_of};
use keyward_rules::provider::{Catalogue, Provider, check};

/// In the data directory.
const FILE: &str = "providers.checked";

/// With fewer providers, checking them is faster than using this file.
pub(super) const KEPT_FROM: usize = 64;

const KEY: &str = "providers";

/// What the file keeps, below the SHA-256 of it.
#[derive(Deserialize, Serialize)]
struct KeptProviders {
    /// The program that checked.
    program: String,
    providers: Vec<KeptProvider>,
}

#[derive(Deserialize, Serialize)]
struct KeptProvider {
    facts: ProviderFacts,
    /// SHA-256 of its lines.
    lines: String,
}

/// A configuration with providers that were found sound.
#[derive(Debug)]
pub(super) struct CheckedProviders {
    /// Its text without the lines of `providers`; other lines keep their numbers.
    pub(super) rest: String,
    pub(super) providers: Vec<Arc<CheckedProvider>>,
    /// How many items the section has in `rest`. The reader must find as many: what was cut out could have stood inside of a
    /// text, or between the quotes of one.
    pub(super) others: usize,
}

impl CheckedProviders {
    /// Those of the configuration `text` that this program has found sound, if there are any.
    pub(super) fn find(text: &str, data: &Path, environment: &VariableSource) -> Option<Self> {
        let place = section(text)?;
        let kept = KeptProviders::read(&data.join(FILE))?;
        if kept.program != program()? || is_laid_over(environment) {
            return None;
        }
        let section: Arc<str> = text[place.clone()].into();
        let kept = kept.providers.into_iter().map(|it| (it.lines, it.facts));
        let mut kept: HashMap<String, ProviderFacts> = kept.collect();
        let (mut providers, mut sound) = (Vec::new(), Vec::new());
        let items = items_of(&section)?;
        let others = items.len();
        for at in items {
            // Of two with the same lines, one is read, so that its id is found twice.
            if let Some(facts) = kept.remove(&sha256(section[at.clone()].as_bytes())) {
                let provider = CheckedProvider::new(facts, &section, at.clone(), parse)?;
                providers.push(Arc::new(provider));
                sound.push(at);
            }
        }
        let others = others - providers.len();
        let rest = without(text, &place, (others > 0).then_some(&sound));
        (!providers.is_empty()).then_some(Self { rest, providers, others })
    }
}

/// Checks the providers of the configuration `text`, and keeps that they are sound. Returns whether they are kept now.
///
/// # Errors
/// The file cannot be written.
pub(super) fn keep(text: &str, data: &Path, environment: &VariableSource) -> io::Result<bool> {
    let are_kept = |it: CheckedProviders| it.others == 0;
    if is_laid_over(environment)
        || CheckedProviders::find(text, data, environment).is_some_and(are_kept)
    {
        return Ok(false);
    }
    match (KeptProviders::of(text), program()) {
        (Some(kept), Some(program)) => {
            KeptProviders { program, ..kept }.write(&data.join(FILE)).map(|()| true)
        }
        _ => Ok(false),
    }
}

impl KeptProviders {
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
        let rest = Document::parse("", &without(text, &place, None)).ok()?;
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
        let kept = |(provider, at): (_, Range<usize>)| {
            let lines = sha256(of_section[at].as_bytes());
            Some(KeptProvider { facts: ProviderFacts::of(provider)?, lines })
        };
        let providers = found.iter().zip(places).map(kept).collect::<Option<_>>()?;
        Some(Self { program: String::new(), providers })
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
    let places: Vec<_> = begins.iter().zip(ends).map(|(begin, end)| *begin..end).collect();
    let are_items = items_of(&text[section.clone()]).is_some_and(|found| found == places);
    are_items.then_some((section, places))
}

/// The bytes of the items of a section, by their lines alone: each begins with `- ` as far to the right as the first one.
fn items_of(section: &str) -> Option<Vec<Range<usize>>> {
    let (mut begins, mut indent, mut end) = (Vec::new(), None, 0);
    for (index, line) in section.split_inclusive('\n').enumerate() {
        let words = line.trim_start_matches(' ');
        let right = line.len() - words.len();
        let is_some = !words.trim().is_empty() && !words.starts_with('#') && index > 0;
        let is_begin = words.starts_with("- ") && indent.is_none_or(|indent| indent == right);
        match is_some {
            true if is_begin => {
                indent = Some(right);
                begins.push(end);
            }
            true if indent.is_none_or(|indent| right <= indent) => return None,
            _ => {}
        }
        end += line.len();
    }
    let ends = begins.iter().copied().skip(1).chain([end]);
    Some(begins.iter().zip(ends).map(|(begin, end)| *begin..end).collect())
}

/// Parses the text of a provider, at its first use.
fn parse(name: &str, text: &str) -> Result<Vec<Provider>, Vec<Problem>> {
    check::file(name, text, &Catalogue::built_in())
}

/// The text with empty lines for these items of the section; without them, with an empty list for the section.
fn without(text: &str, section: &Range<usize>, items: Option<&Vec<Range<usize>>>) -> String {
    let empty = |text: &str| "\n".repeat(text.matches('\n').count());
    let lines = &text[section.clone()];
    let mut rest = text[..section.start].to_owned();
    match items {
        None => rest.extend([KEY, ": []", &empty(lines)]),
        Some(items) => {
            let mut from = 0;
            for at in items {
                rest.extend([&lines[from..at.start], &empty(&lines[at.clone()])]);
                from = at.end;
            }
            rest += &lines[from..];
        }
    }
    rest + &text[section.end..]
}

/// Whether variables replace providers of the file.
fn is_laid_over(environment: &VariableSource) -> bool {
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
