//! Reads a process's arguments, variables, program and libraries from Linux's proc(5). On other systems, and
//! for other users' processes, everything is empty.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// Longer command lines and environments are cut.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The environment of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Variables {
    /// The environment at its start, `NAME=value` each. It holds secrets.
    Given(Vec<String>),
    /// The process has overwritten its environment with a title (`setproctitle`), as Chromium's children
    /// and some servers do.
    Overwritten,
    /// The process belongs to another user.
    Hidden,
}

/// The command line, one word each.
pub(super) fn words(pid: u32) -> Vec<String> {
    let bytes = bytes(pid, "cmdline").unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(text).collect()
}

/// The environment at its start.
pub(super) fn variables(pid: u32) -> Variables {
    bytes(pid, "environ").map_or(Variables::Hidden, |bytes| Variables::of(&bytes))
}

impl Variables {
    /// execve(2) stores variables one after the other, each terminated by one zero byte. A title ends with
    /// several zero bytes, or is not `NAME=value`.
    fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Given(Vec::new());
        }
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let variables: Vec<_> = bytes.split(|byte| *byte == 0).collect();
        match variables.iter().all(|variable| is_variable(variable)) {
            true => Self::Given(variables.into_iter().map(text).collect()),
            false => Self::Overwritten,
        }
    }
}

/// Names may contain anything but `=` (environ(7)). Real names have no blanks; titles do.
fn is_variable(text: &[u8]) -> bool {
    let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < text.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// Read by one read(2): `cmdline` ends early for a second one if the process ends in between.
fn bytes(pid: u32, file: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; TEXT_BYTES_MAX];
    let count = File::open(format!("/proc/{pid}/{file}")).ok()?.read(&mut bytes).ok()?;
    if count == TEXT_BYTES_MAX {
        // Up to the last complete entry.
        let end = bytes.iter().rposition(|byte| *byte == 0);
        bytes.truncate(end.map_or(TEXT_BYTES_MAX, |end| end + 1));
    } else {
        bytes.truncate(count);
    }
    Some(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The file name of its executable.
pub(super) fn program(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The working directory.
pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether the path of a mapped file contains `part`.
pub(super) fn maps(pid: u32, part: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_title_is_distinguished_from_environment_variables() {
        let given = |list: &[&str]| Variables::Given(list.iter().map(|&it| it.into()).collect());
        assert_eq!(Variables::of(b""), given(&[]));
        assert_eq!(Variables::of(b"A=b\0_=/x\0E=\0"), given(&["A=b", "_=/x", "E="]));
        assert_eq!(
            Variables::of(b"A=b\0npm_config_//x/:_a=1"),
            given(&["A=b", "npm_config_//x/:_a=1"])
        );
        for title in [
            &b"89122997041\0\0\0\0"[..],
            b"crash-reporter=,built on Debian GNU/Linux 12 --noerrdialogs\0\0\0",
            b"path=/tmp/x --lang=en\0\0\0\0\0\0",
            b"\0\0\0\0",
            b" worker process\0",
        ] {
            assert_eq!(Variables::of(title), Variables::Overwritten, "{title:?}");
        }
    }
}
