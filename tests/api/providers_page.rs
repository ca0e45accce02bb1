//! The pages about providers: an index and a page for each category are made from the catalogue, and the examples of
//! the guide work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::generated_page::{GeneratedPage, between};
use keyward_rules::provider::catalogue::CATEGORIES;
use keyward_rules::provider::{AuthMethod, Catalogue, HostTemplate, Provider, Template, check};

const INDEX: GeneratedPage = GeneratedPage {
    file: "providers.md",
    text: include_str!("../../docs/reference/providers.md"),
    marks: ["<!-- made from the catalogue: begin -->\n", "<!-- end -->\n"],
};

/// How to write one.
const GUIDE: &str = include_str!("../../docs/guides/providers.md");

/// The folder of the categories' pages, in the package.
const FOLDER: &str = "docs/reference/providers";

/// The built-in providers by category.
fn by_category(catalogue: &Catalogue) -> BTreeMap<&str, Vec<&Arc<Provider>>> {
    let mut found: BTreeMap<&str, Vec<&Arc<Provider>>> = BTreeMap::new();
    for provider in catalogue.all() {
        found.entry(provider.category.as_deref().unwrap_or_default()).or_default().push(provider);
    }
    found
}

fn index() -> String {
    let catalogue = Catalogue::built_in();
    let of = by_category(&catalogue);
    let mut text = format!("{} providers:\n\n", catalogue.all().count());
    text.push_str("| category | `--category` | providers |\n|---|---|---|\n");
    for (category, title) in CATEGORIES {
        let link = |it: &&Arc<Provider>| {
            format!("[{}](providers/{category}.md#{})", it.id, anchor(&it.name, &it.id))
        };
        let links: Vec<String> = of[category].iter().map(link).collect();
        let _ = writeln!(
            text,
            "| [{title}](providers/{category}.md) | `{category}` | {} |",
            links.join(", ")
        );
    }
    text
}

/// The anchor that Markdown gives to the heading `NAME: ID`.
fn anchor(name: &str, id: &str) -> String {
    let heading = format!("{name}: {id}").to_lowercase();
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn page(title: &str, providers: &[&Arc<Provider>]) -> String {
    let mut text = format!(
        "# Providers: {title}\n\nA part of the [built-in providers](../providers.md), which says how to read it. This \
         page is made from the catalogue.\n"
    );
    for provider in providers {
        section(provider, &mut text);
    }
    text
}

fn section(provider: &Provider, text: &mut String) {
    let about = &provider.about;
    let _ = write!(text, "\n## {}: `{}`\n\n", provider.name, provider.id);
    let hosts: Vec<String> = provider.hosts.iter().map(|host| shown(provider, host)).collect();
    if let Some(url) = &about.mcp {
        let _ = writeln!(text, "- server: <{url}>");
    }
    if !hosts.is_empty() {
        let _ = writeln!(text, "- hosts: {}", hosts.join(" "));
    }
    if !provider.paths.is_empty() {
        let _ = writeln!(text, "- paths: {}", code(&provider.paths));
    }
    for variable in provider.variables.iter().filter(|variable| !variable.captured) {
        let help = variable.help.as_ref().map(|help| format!(", {help}")).unwrap_or_default();
        let value = match (&variable.default, variable.choices.as_slice()) {
            (_, [_, ..]) => format!(" ({})", code(&variable.choices)),
            (Some(default), []) if default.is_empty() => " (optional)".to_owned(),
            (Some(default), []) => format!(" (`{default}` if not given)"),
            (None, []) => String::new(),
        };
        let _ = writeln!(text, "- `--var {}`: {}{help}{value}", variable.name, variable.label);
    }
    let pages = [("key", &about.key_url), ("documentation", &about.docs_url)];
    let pages = pages.iter().filter_map(|(name, url)| Some(format!("[{name}]({})", url.as_ref()?)));
    let _ = writeln!(text, "- pages: {}", pages.collect::<Vec<_>>().join(", "));
    text.push_str("\n| `auth` | | variables | begins with |\n|---|---|---|---|\n");
    usable(provider).for_each(|auth| text.push_str(&row(auth)));
    provider.auth.iter().for_each(|auth| apps(auth, text));
    if !about.quirks.is_empty() {
        text.push('\n');
        about.quirks.iter().for_each(|quirk| {
            let _ = writeln!(text, "- {quirk}");
        });
    }
    if !about.templates.is_empty() {
        let set = |template: &Template| {
            let label = template.label.as_deref().unwrap_or_default();
            format!("`{}` {label} ({})", template.id, code(&template.scopes))
        };
        let sets: Vec<_> = about.templates.iter().map(set).collect();
        let _ = writeln!(
            text,
            "\nSuggested scopes, by `keyward app add --template ID`: {}.",
            sets.join("; ")
        );
    }
    if !about.scope_words.is_empty() {
        let words = about.scope_words.iter().map(|(scope, words)| format!("`{scope}` ({words})"));
        let _ = writeln!(text, "\nScopes: {}.", words.collect::<Vec<_>>().join(", "));
    }
    let checked = about.checked.as_ref().map(|day| format!(", {day}")).unwrap_or_default();
    let _ = writeln!(text, "\nSources: {}{checked}.", about.sources.join(", "));
}

/// What to do to register an app.
fn apps(auth: &AuthMethod, text: &mut String) {
    if auth.app_steps.is_empty() {
        return;
    }
    let source = auth.app_source.as_ref();
    let source = source.unwrap_or_else(|| panic!("`{}`: no page has its steps", auth.id));
    let _ = writeln!(
        text,
        "\nAn app for `{}` ([page]({}), {}):\n",
        auth.id, source.url, source.checked
    );
    for (at, step) in auth.app_steps.iter().enumerate() {
        let step = step.replace(" {redirect_uri}", ": the redirect URI of `keyward app show`");
        let _ = writeln!(text, "{}. {step}", at + 1);
    }
}

/// Ways to authenticate that exist.
fn usable(provider: &Provider) -> impl Iterator<Item = &AuthMethod> {
    provider.auth.iter()
}

fn row(auth: &AuthMethod) -> String {
    let secrets: Vec<_> = auth.fields.iter().filter(|field| field.secret).collect();
    let variables = code(secrets.iter().flat_map(|field| &field.env));
    let prefixes = code(secrets.iter().flat_map(|field| &field.prefixes));
    let app = auth.app_url.as_ref().map(|url| format!(" ([app]({url}))")).unwrap_or_default();
    let note = auth.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let scopes = auth.oauth.as_ref().map(|oauth| &oauth.scopes).filter(|scopes| !scopes.is_empty());
    let scopes = scopes.map(|scopes| format!("; scopes {}", code(scopes))).unwrap_or_default();
    let label = &auth.label;
    format!("| `{}` | {label}{app}{note}{scopes} | {variables} | {prefixes} |\n", auth.id)
}

fn code<T: ToString>(texts: impl IntoIterator<Item = T>) -> String {
    let texts = texts.into_iter().map(|text| format!("`{}`", text.to_string()));
    texts.collect::<Vec<_>>().join(" ")
}

/// A host as it is written, with the one it is when the owner says nothing.
fn shown(provider: &Provider, host: &HostTemplate) -> String {
    match (host.literal(), host.usual(&provider.variables)) {
        (None, Some(usual)) => format!("`{host}` (`{usual}`)"),
        _ => format!("`{host}`"),
    }
}

#[test]
fn the_index_page_lists_every_provider_under_its_category() {
    let catalogue = Catalogue::built_in();
    let known: BTreeSet<&str> = CATEGORIES.iter().map(|(category, _)| *category).collect();
    let used: BTreeSet<&str> = by_category(&catalogue).into_keys().collect();
    assert_eq!(used, known, "each category has a title, and each title providers");
    INDEX.check(&index());
}

#[test]
fn each_category_has_a_generated_page_of_its_providers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let (catalogue, mut made) = (Catalogue::built_in(), BTreeSet::new());
    let of = by_category(&catalogue);
    for (category, title) in CATEGORIES {
        let (file, text) = (folder.join(format!("{category}.md")), page(title, &of[category]));
        if std::env::var_os("KEYWARD_WRITE_DOCS").is_some() {
            fs::create_dir_all(&folder).expect("the folder can be made");
            fs::write(&file, &text).expect("the page can be written");
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert!(written == text, "{category}: run this test once with KEYWARD_WRITE_DOCS=1");
        made.insert(file);
    }
    let entries = fs::read_dir(&folder).expect("the folder is there");
    let found: BTreeSet<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    assert_eq!(found, made, "no page is left of a category that is gone");
}

#[test]
fn the_guide_s_provider_examples_are_valid() {
    let mut examples = GUIDE.split("```yaml\n").skip(1).map(|rest| between(rest, ["", "```"]));
    let mut checked = 0;
    for example in examples.by_ref().filter(|example| example.starts_with("id:")) {
        let found = check::file("example", example, &Catalogue::built_in());
        let problems = found.err().unwrap_or_default();
        assert!(problems.is_empty(), "{problems:#?}");
        checked += 1;
    }
    assert!(checked > 1, "the guide has an example, and one that extends a provider");
}
