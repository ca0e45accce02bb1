//! Lists of options in one variable, such as `NODE_OPTIONS`: inherited options stay, and those of an earlier environment are
//! replaced.

/// The options of `theirs` without those that `ours` sets, and then `ours`.
pub(super) fn appended(theirs: &str, ours: &str) -> String {
    let kept = without_settings(theirs, ours);
    if kept.is_empty() { ours.to_owned() } else { format!("{kept} {ours}") }
}

/// The options of `theirs` without those that `ours` sets.
pub(super) fn without_settings(theirs: &str, ours: &str) -> String {
    let set: Vec<&str> = words(ours).into_iter().map(setting).collect();
    let kept = words(theirs).into_iter().filter(|word| !set.contains(&setting(word)));
    kept.collect::<Vec<_>>().join(" ")
}

/// The options without `option`.
pub(super) fn without(options: &str, option: &str) -> String {
    let kept: Vec<&str> = words(options).into_iter().filter(|word| *word != option).collect();
    kept.join(" ")
}

/// Directories of PHP's ini files or of Python's modules without `directory`. Empty entries, which are PHP's own directories,
/// stay.
pub(super) fn without_directory(directories: &str, directory: &str) -> String {
    let is_kept = |entry: &&str| entry.is_empty() || *entry != directory;
    let kept: Vec<&str> = directories.split(':').filter(is_kept).collect();
    kept.join(":")
}

/// The directories of PHP's ini files, and then `ours`. Without any, PHP reads the empty entry as its own
/// (<https://www.php.net/manual/en/configuration.file.php>).
pub(super) fn with_directory(theirs: &str, ours: &str) -> String {
    format!("{theirs}:{ours}")
}

/// `ours`, and then the directories of Python's modules. No entry is empty if they are: Python reads that as the current
/// directory.
pub(super) fn first_directory(ours: &str, theirs: &str) -> String {
    if theirs.is_empty() { ours.to_owned() } else { format!("{ours}:{theirs}") }
}

/// One option for Java, which splits at blanks outside of quotes of both kinds and knows no escapes.
pub(super) fn quoted_for_java(option: &str) -> String {
    match option.contains(|c: char| c.is_whitespace() || "'\"".contains(c)) {
        true => format!("\"{}\"", option.replace('"', "\"'\"'\"")),
        false => option.to_owned(),
    }
}

/// One option for Node, which splits at blanks outside of double quotes and reads `\` as an escape within them.
pub(super) fn quoted_for_node(option: &str) -> String {
    match option.contains(|c: char| c.is_whitespace() || c == '"') {
        true => format!("\"{}\"", option.replace('\\', "\\\\").replace('"', "\\\"")),
        false => option.to_owned(),
    }
}

/// What an option sets. Java takes the last value of a property, so its name is enough.
fn setting(option: &str) -> &str {
    let plain = option.trim_start_matches('"');
    if plain.starts_with("-D") { plain.split('=').next().unwrap_or(plain) } else { option }
}

/// The options, which blanks outside of double quotes separate.
fn words(options: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_gap = |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c.is_whitespace()
    };
    options.split(is_gap).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_php_that_keyward_does_not_set_stay() {
        assert_eq!(with_directory(&without_directory("", "/f"), "/f"), ":/f");
        assert_eq!(with_directory(&without_directory(":/f", "/f"), "/f"), ":/f");
        assert_eq!(with_directory(&without_directory("/a::/f:/b", "/f"), "/f"), "/a::/b:/f");
        assert_eq!(with_directory(&without_directory(":/a", ""), "/f"), ":/a:/f");
    }

    #[test]
    fn directories_of_python_that_keyward_does_not_set_stay_and_the_current_one_is_not_added() {
        assert_eq!(first_directory("/f", &without_directory("", "/f")), "/f");
        assert_eq!(first_directory("/f", &without_directory("/f", "/f")), "/f");
        assert_eq!(first_directory("/f", &without_directory("/f:/a", "/f")), "/f:/a");
        assert_eq!(first_directory("/g", &without_directory("/f:/a:", "/f")), "/g:/a:");
    }

    #[test]
    fn inherited_options_that_keyward_does_not_set_stay() {
        assert_eq!(appended("", "-Da=1"), "-Da=1");
        assert_eq!(appended(" -Xmx1g  -Dab=2 ", "-Da=1 -Db="), "-Xmx1g -Dab=2 -Da=1 -Db=");
        let theirs = "--require=/a/node-shim.cjs --title=\"a  b\"";
        assert_eq!(appended(theirs, "--x"), format!("{theirs} --x"));
    }

    /// As `JAVA_TOOL_OPTIONS` and `NODE_OPTIONS` are read.
    #[test]
    fn an_option_with_blanks_and_quotes_stays_one_option() {
        let table = [
            ("-Da=/a", "-Da=/a", "-Da=/a"),
            ("-Da=/a b", r#""-Da=/a b""#, r#""-Da=/a b""#),
            ("-Da=/o'brien", r#""-Da=/o'brien""#, "-Da=/o'brien"),
            (r#"-Da=/a"b"#, r#""-Da=/a"'"'"b""#, r#""-Da=/a\"b""#),
            (r"-Da=/a b\c", r#""-Da=/a b\c""#, r#""-Da=/a b\\c""#),
        ];
        for (option, java, node) in table {
            assert_eq!(quoted_for_java(option), java);
            assert_eq!(quoted_for_node(option), node);
        }
        let ours = quoted_for_java("-Da=/o'brien");
        assert_eq!(appended(&format!("-Xmx1g {ours}"), &ours), format!("-Xmx1g {ours}"));
    }

    #[test]
    fn options_of_an_earlier_environment_are_replaced() {
        let table = [
            ("-Da=1 -Db=", "-Da=2 -Db="),
            ("\"-Da=/x y/z\" -Db=", "\"-Da=/v w\" -Db="),
            ("\"--require=/x y/z\"", "\"--require=/x y/z\""),
        ];
        for (earlier, ours) in table {
            assert_eq!(appended(&format!("{earlier} -Xmx1g"), ours), format!("-Xmx1g {ours}"));
        }
        assert_eq!(without("-a \"--b=c d\" -e", "\"--b=c d\""), "-a -e");
    }
}
