//! Errors of the operating system that have the same remedy wherever they occur.

use std::error::Error;
use std::io;

use rustix::io::Errno;

/// Whether the process or the system has no file descriptor left (open(2), socket(2), accept(2)).
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let none_left = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| none_left.contains(&code))
}

/// What the operator can do about the error, where that does not depend on what was attempted.
pub fn remedy(error: &io::Error) -> Option<&'static str> {
    is_out_of_descriptors(error).then_some(
        "let this process open more files: raise `ulimit -n` (systemd: LimitNOFILE), or end programs that have many open",
    )
}

/// The error of the operating system that caused an error, if there is one.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The messages of an error and its sources in one line, without repetitions: some errors say what their source says.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot begin")]
    struct Outer(#[source] io::Error);

    #[test]
    fn too_many_open_files_have_a_remedy_wherever_they_occur() {
        for none_left in [Errno::MFILE, Errno::NFILE] {
            let outer = Outer(none_left.into());
            let found = cause(&outer).and_then(remedy);
            assert!(found.is_some_and(|text| text.contains("ulimit -n")), "{none_left}");
        }
        assert_eq!(remedy(&Errno::ACCESS.into()), None);
        assert!(cause(&io::Error::from(Errno::ROFS)).is_some(), "the error itself");
        assert!(cause(&std::fmt::Error).is_none());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot begin: {0}")]
    struct Repeating(#[source] io::Error);

    #[test]
    fn a_chain_says_each_cause_once() {
        assert_eq!(chain(&Outer(io::Error::other("no"))), "cannot begin: no");
        assert_eq!(chain(&Repeating(io::Error::other("no"))), "cannot begin: no");
    }
}
