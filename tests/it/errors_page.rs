//! The page about refusals: its table is generated from the codes.

use std::fmt::Write;

use keyward_base::codes::{Code, CodeRow, Sender};

use crate::providers_page::between;

const PAGE: &str = include_str!("../../docs/reference/errors.md");

/// Around the tables.
const MARKS: [&str; 2] = ["<!-- made from the code: begin -->\n", "<!-- end -->\n"];

fn tables() -> String {
    let rows: Vec<CodeRow> = Code::ALL.iter().map(|code| code.row()).collect();
    let by_proxy = |row: &&CodeRow| row.sender != Sender::Api;
    let by_api = |row: &&CodeRow| !matches!(row.sender, Sender::Proxy(_));
    let mut text = String::from("## From the proxy\n\n");
    text.push_str("| status | code | when | what to do | `error` in `Proxy-Status` |\n|---|---|---|---|---|\n");
    for CodeRow { text: code, status, meaning, remedy, sender } in
        sorted(rows.iter().filter(by_proxy))
    {
        let (Sender::Proxy(error) | Sender::Both(error)) = sender else { continue };
        let _ = writeln!(text, "| {status} | `{code}` | {meaning} | {remedy} | `{error}` |");
    }
    text.push_str(
        "\n## From the API\n\n| status | code | when | what to do |\n|---|---|---|---|\n",
    );
    for CodeRow { text: code, status, meaning, remedy, .. } in sorted(rows.iter().filter(by_api)) {
        let _ = writeln!(text, "| {status} | `{code}` | {meaning} | {remedy} |");
    }
    text
}

/// By status; the order of the table within one.
fn sorted<'a>(rows: impl Iterator<Item = &'a CodeRow>) -> Vec<&'a CodeRow> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| row.status);
    rows
}

#[test]
fn the_page_has_every_code_and_nothing_else() {
    let [begin, end] = MARKS;
    if std::env::var_os("KEYWARD_WRITE_DOCS").is_some() {
        let old = format!("{begin}{}{end}", between(PAGE, MARKS));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/errors.md");
        let page = PAGE.replacen(&old, &format!("{begin}{}{end}", tables()), 1);
        std::fs::write(file, page).expect("the page can be written");
        return;
    }
    let (written, made) = (between(PAGE, MARKS), tables());
    assert!(written == made, "run this test once with KEYWARD_WRITE_DOCS=1, and commit the page");
}
