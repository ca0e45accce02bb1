//! What is written for people is true: commands in the documentation and in `deploy/` are ones that
//! the command line accepts, configurations are ones that the parser accepts, links lead somewhere, and
//! the words are those of the glossary.

mod commands;
mod configurations;
mod deploy;
mod links;
mod words;

use std::fs;
use std::path::Path;

/// A file for people.
struct Page {
    /// From the package's root, with `/`.
    path: String,
    text: String,
}

/// A fenced block of Markdown.
struct Block<'p> {
    language: &'p str,
    text: &'p str,
    /// Of its first line, for messages.
    line: usize,
}

/// Everything in Markdown, but for what is built or installed.
fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    collect("", "md", &mut found);
    assert!(found.iter().any(|page| page.path == "README.md"), "the README is a page");
    found
}

/// The files of a folder.
fn files(folder: &str, extension: &str) -> Vec<Page> {
    let mut found = Vec::new();
    collect(folder, extension, &mut found);
    found
}

fn collect(folder: &str, extension: &str, found: &mut Vec<Page>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join(folder)).expect("the package can be read") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("names are text");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type().expect("a type").is_dir() {
            if !name.starts_with('.') && !matches!(&*name, "target" | "node_modules") {
                collect(&path, extension, found);
            }
        } else if Path::new(&name).extension().is_some_and(|it| it == extension) {
            let text = fs::read_to_string(root.join(&path)).expect("pages are UTF-8");
            found.push(Page { path, text });
        }
    }
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        Self { path: path.to_owned(), text: text.expect("the file is there") }
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut found = Vec::new();
        let mut open: Option<(&str, usize, usize)> = None;
        let mut at = 0;
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            let start = at;
            at += line.len();
            let Some(language) = line.trim_start().strip_prefix("```") else { continue };
            match open.take() {
                None => open = Some((language.trim(), at, number + 2)),
                Some((language, from, line)) => {
                    found.push(Block { language, text: &self.text[from..start], line });
                }
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.path);
        found
    }

    /// The text without its blocks, line for line.
    fn prose(&self) -> String {
        let mut inside = false;
        let lines = self.text.lines().map(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            if inside || fence { "" } else { line }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
