//! The pages about providers: the list is made from the catalogue, and the examples of the guide work.

use crate::generated_page::{GeneratedPage, between};
use keyward_rules::provider::{AuthMethod, Catalogue, HostTemplate, Provider, check};

const PAGE: GeneratedPage = GeneratedPage {
    file: "providers.md",
    text: include_str!("../../docs/reference/providers.md"),
    marks: ["<!-- made from the catalogue: begin -->\n", "<!-- end -->\n"],
};

/// How to write one.
const GUIDE: &str = include_str!("../../docs/guides/providers.md");

fn list() -> String {
    let mut text = String::from(
        "| `provider` | hosts | `auth` | variables set for programs | get one |\n|---|---|---|---|---|\n",
    );
    for provider in Catalogue::built_in().all() {
        for (number, auth) in usable(provider).enumerate() {
            text.push_str(&row(provider, auth, number == 0));
        }
    }
    text
}

/// Ways to authenticate that exist.
fn usable(provider: &Provider) -> impl Iterator<Item = &AuthMethod> {
    provider.auth.iter().filter(|auth| auth.later.is_none())
}

fn row(provider: &Provider, auth: &AuthMethod, first: bool) -> String {
    let code = |texts: Vec<String>| {
        let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
        texts.join(" ")
    };
    let named = match first {
        true => format!("`{}` ({})", provider.id, provider.name),
        false => String::new(),
    };
    let hosts = match first {
        true => {
            provider.hosts.iter().map(|host| shown(provider, host)).collect::<Vec<_>>().join(" ")
        }
        false => String::new(),
    };
    let secrets = auth.fields.iter().filter(|field| field.secret);
    let variables = code(secrets.flat_map(|field| field.env.clone()).collect());
    let key = provider.about.key_url.as_ref().filter(|_| first);
    let key = key.map(|url| format!("[here]({url})")).unwrap_or_default();
    format!("| {named} | {hosts} | `{}`: {} | {variables} | {key} |\n", auth.id, auth.label)
}

/// A host as it is written, with the one it is when the owner says nothing.
fn shown(provider: &Provider, host: &HostTemplate) -> String {
    match (host.literal(), host.usual(&provider.variables)) {
        (None, Some(usual)) => format!("`{host}` (`{usual}`)"),
        _ => format!("`{host}`"),
    }
}

#[test]
fn the_page_lists_every_provider_and_what_can_be_used_of_it() {
    PAGE.check(&list());
}

#[test]
fn the_guide_s_examples_are_right() {
    let mut examples = GUIDE.split("```yaml\n").skip(1).map(|rest| between(rest, ["", "```"]));
    let mut checked = 0;
    for example in examples.by_ref().filter(|example| example.starts_with("id:")) {
        let found = check::file("example", example, &Catalogue::built_in());
        let problems = found.err().unwrap_or_default();
        assert!(problems.is_empty(), "{problems:#?}");
        checked += 1;
    }
    assert!(checked > 0, "the guide has an example");
}
