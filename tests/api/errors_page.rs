//! The page about errors: one heading for each code, generated from the codes, so that `errors.md#CODE` is a
//! stable link.

use std::fmt::Write;

use keyward_base::codes::{Code, CodeRow, Sender};

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "errors.md",
    text: include_str!("../../docs/reference/errors.md"),
    marks: ["<!-- made from the code: begin -->\n", "<!-- end -->\n"],
};

fn sections() -> String {
    let mut text = String::new();
    for (code, rows) in Code::rows() {
        let _ = write!(text, "\n### {code}\n\n");
        for row in rows {
            text.push_str(&entry(&row));
        }
    }
    text
}

fn entry(CodeRow { status, meaning, remedy, sender, .. }: &CodeRow) -> String {
    let sender = match sender {
        Sender::Proxy(error) => format!("proxy, `error={error}`"),
        Sender::Api => "API".to_owned(),
        Sender::Both(error) => format!("proxy, `error={error}`; API"),
    };
    format!("- **{status}** ({sender}). {meaning}\\\n  What to do: {remedy}\n")
}

#[test]
fn the_page_has_every_code_and_nothing_else() {
    PAGE.check(&sections());
}

#[test]
fn each_code_has_exactly_one_heading() {
    let headings: Vec<_> = PAGE.text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for code in Code::ALL {
        let text = code.row().text;
        assert_eq!(headings.iter().filter(|it| **it == text).count(), 1, "{text}");
    }
}
