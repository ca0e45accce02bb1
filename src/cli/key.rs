//! `keyward key`: lists the master keys that seal the store, and rotates them.

use clap::Subcommand;

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::terminal::table::{Table, TableLayout};
use keyward_api::wire::{KeyRotated, KeySourceKind, KeySourceView, KeyView, List};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// list the master keys: id, source, and number of rows that each wraps
    List,
    /// wrap every row with a new key while requests go on, and destroy the old key
    #[command(after_help = ROTATE_HELP)]
    Rotate(Confirm),
}

const ROTATE_HELP: &str = "\
If the key is Keyward's own file (the default), a new key is created. If
`master_key` names the keys, put the new one first and `keyward reload`
(restart, if it is in a variable), then rotate: every row moves to the first key
of the list.";

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::List => {
                let keys = client.list("/api/v1/keys", &[]).await?;
                output::show(global.json, &keys, |keys| listed(keys, &output::layout(global)))
            }
            Self::Rotate(confirm) => {
                let loss =
                    "the old key is destroyed: backups sealed with it need their own copy of it";
                confirm.ask("replace the master key", &[loss.to_owned()])?;
                let none = serde_json::json!({});
                let rotated: KeyRotated = client.post("/api/v1/keys/rotate", &none).await?;
                output::show(global.json, &rotated, told)?;
                if !global.json {
                    notes(&rotated).iter().for_each(|note| output::note(note));
                }
                Ok(())
            }
        }
    }
}

fn listed(keys: &List<KeyView>, layout: &TableLayout) -> String {
    let mut table = Table::new(["ID", "USE", "SOURCE", "ROWS"]);
    for key in &keys.items {
        let usage = match (key.current, &key.source) {
            (true, _) => "current",
            (false, Some(_)) => "reading",
            (false, None) => "missing",
        };
        let source = key.source.as_ref().map(source).unwrap_or_default();
        table.row([
            key.id.clone().into(),
            usage.into(),
            source.into(),
            key.rows.to_string().into(),
        ]);
    }
    table.render("no keys", layout)
}

fn source(source: &KeySourceView) -> String {
    match source.kind {
        KeySourceKind::File => source.name.clone(),
        KeySourceKind::Env => format!("env {}", source.name),
        KeySourceKind::Command => format!("command {}", source.name),
        KeySourceKind::Memory => "memory".to_owned(),
    }
}

fn told(rotated: &KeyRotated) -> String {
    let KeyRotated { current, made, rewrapped, rows, .. } = rotated;
    let what = if *made { "created a new key" } else { "continued with the existing key" };
    format!("{what}: {current} wraps all {rows} rows; {rewrapped} rows were wrapped again\n")
}

/// What a person must do now.
fn notes(rotated: &KeyRotated) -> Vec<String> {
    let mut notes = Vec::new();
    if !rotated.retired.is_empty() && rotated.source.kind == KeySourceKind::File {
        notes.push(format!(
            "note: renew your copy of {}; older copies of the store's folder need the old key, \
             {}; files of `keyward backup` need none",
            rotated.source.name,
            rotated.retired.join(", ")
        ));
    }
    let unneeded = rotated.unneeded.iter();
    notes.extend(unneeded.map(|key| {
        format!("note: {} is no longer needed: remove it from `master_key`", source(key))
    }));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(kind: KeySourceKind) -> KeyRotated {
        KeyRotated {
            current: "c0".to_owned(),
            source: KeySourceView { kind, name: "NAME".to_owned() },
            made: kind == KeySourceKind::File,
            retired: Vec::new(),
            unneeded: Vec::new(),
            rewrapped: 2,
            rows: 3,
        }
    }

    #[test]
    fn notes_after_a_rotation_name_the_copies_to_renew_and_the_keys_to_remove() {
        let own = KeyRotated { retired: vec!["a1".to_owned()], ..rotated(KeySourceKind::File) };
        insta::assert_snapshot!(notes(&own).join("\n"), @"note: renew your copy of NAME; older copies of the store's folder need the old key, a1; files of `keyward backup` need none");
        let old = KeySourceView { kind: KeySourceKind::Env, name: "OLD".to_owned() };
        let given = KeyRotated { unneeded: vec![old], ..rotated(KeySourceKind::Env) };
        insta::assert_snapshot!(notes(&given).join("\n"), @"note: env OLD is no longer needed: remove it from `master_key`");
        insta::assert_snapshot!(told(&given), @"continued with the existing key: c0 wraps all 3 rows; 2 rows were wrapped again");
    }

    #[test]
    fn a_key_without_a_source_is_listed_as_missing() {
        let key = |current, source| KeyView { id: "c0".to_owned(), current, source, rows: 7 };
        let file = KeySourceView { kind: KeySourceKind::File, name: "master.key".to_owned() };
        let items = vec![key(true, Some(file)), key(false, None)];
        insta::assert_snapshot!(listed(&List { items, next: None }, &TableLayout::FULL), @r"
        ID   USE       SOURCE       ROWS
        c0   current   master.key   7
        c0   missing                7
        ");
    }
}
