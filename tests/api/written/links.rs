//! Links between the files of the repository lead to files and headings that exist.

use std::path::{Component, Path, PathBuf};

use super::{Page, pages};

/// Where the links of a page lead, outside of code.
fn links(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let plain: String = prose.split('`').step_by(2).collect();
    let targets = plain.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let is_ours = |target: &&str| !target.contains("://") && !target.starts_with("mailto:");
    targets.filter(is_ours).map(str::to_owned).collect()
}

/// `a/b/../c` without the dots.
fn normal(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            Component::CurDir => {}
            part => found.push(part),
        }
    }
    found
}

/// What the host of the repository makes of headings.
fn anchors(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let mut checked = 0;
    for page in &pages {
        for link in links(page) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
            let target = match file {
                "" => PathBuf::from(&page.path),
                file => normal(&folder.join(file)),
            };
            assert!(root.join(&target).exists(), "{}: {link} leads nowhere", page.path);
            if !anchor.is_empty() {
                let there = pages.iter().find(|page| Path::new(&page.path) == target);
                let known = there.map(anchors).unwrap_or_default();
                assert!(known.iter().any(|it| it == anchor), "{}: {link}: {known:?}", page.path);
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

/// Where the links of a page in `docs/` lead, from the package's root.
fn listed(pages: &[Page], path: &str) -> Vec<PathBuf> {
    let page = pages.iter().find(|page| page.path == path).expect("the page is there");
    let target =
        |link: &String| normal(&Path::new("docs").join(link.split('#').next().unwrap_or_default()));
    links(page).iter().map(target).collect()
}

/// `README.md` is the index for readers of the repository, `SUMMARY.md` the table of contents of the site.
#[test]
fn every_page_of_docs_is_in_both_indexes() {
    let pages = pages();
    for index in ["docs/README.md", "docs/SUMMARY.md"] {
        let listed = listed(&pages, index);
        for page in pages.iter().filter(|page| page.path.starts_with("docs/")) {
            let is_index = ["docs/README.md", "docs/SUMMARY.md"].contains(&&*page.path);
            let path = Path::new(&page.path);
            assert!(is_index || listed.iter().any(|it| it == path), "{}: {index}", page.path);
        }
        let twice = listed.iter().enumerate().find(|(at, path)| listed[..*at].contains(*path));
        assert!(twice.is_none(), "{index}: {twice:?}");
    }
}
