//! [`DoctorReport`]: the checks, their results and remedies.

use std::cmp::Reverse;
use std::fmt::Write;

use serde::Serialize;

use keyward_base::visible::visible;

/// The result of a check; the worst is the greatest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckStatus {
    Ok,
    /// Works, but is probably not intended.
    Warn,
    /// Something does not work.
    Fail,
}

/// One check. Holds no value that could be a secret.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct DoctorCheck {
    /// Stable, for programs.
    pub(super) id: &'static str,
    pub(super) status: CheckStatus,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// The checks of one run.
#[derive(Debug, Default, Serialize)]
pub(super) struct DoctorReport {
    pub(super) checks: Vec<DoctorCheck>,
    /// How an examined program ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<u8>,
}

impl DoctorReport {
    /// Adds a check without a problem.
    pub(super) fn ok(&mut self, id: &'static str, message: impl Into<String>) {
        self.add(id, CheckStatus::Ok, message.into(), String::new());
    }

    /// Adds a warning: something works or is optional, but should be checked.
    pub(super) fn warn(
        &mut self,
        id: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(id, CheckStatus::Warn, message.into(), hint.into());
    }

    pub(super) fn fail(
        &mut self,
        id: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(id, CheckStatus::Fail, message.into(), hint.into());
    }

    pub(super) fn add(
        &mut self,
        id: &'static str,
        status: CheckStatus,
        message: String,
        hint: String,
    ) {
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        self.checks.push(DoctorCheck { id, status, message, hint });
    }

    /// Adds the worst `max` checks of `found`, the worst first. Returns those that were omitted.
    pub(super) fn add_worst(&mut self, found: Self, max: usize) -> Vec<DoctorCheck> {
        let mut checks = found.checks;
        checks.sort_by_key(|check| Reverse(check.status));
        let omitted = checks.split_off(checks.len().min(max));
        self.checks.extend(checks);
        omitted
    }

    /// Whether a check failed.
    pub(super) fn failed(&self) -> bool {
        self.count(CheckStatus::Fail) > 0
    }

    fn count(&self, status: CheckStatus) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// Text for resources: one line per check, a second line for its hint, and a summary. Invisible characters are
    /// escaped: a path or a program's arguments must not move the cursor.
    pub(super) fn text(&self, colours: bool) -> String {
        let width = self.checks.iter().map(|check| check.id.len()).max().unwrap_or(0) + 2;
        let mut text = String::new();
        for check in &self.checks {
            let (word, id) = (check.status.word(colours), check.id);
            let _ = writeln!(text, "{word}  {id:width$}{}", visible(&check.message));
            if let Some(hint) = &check.hint {
                let _ = writeln!(text, "      {:width$}hint: {}", "", visible(hint));
            }
        }
        if let Some(code) = self.exit_code {
            let _ = writeln!(text, "the program's exit code: {code}");
        }
        let _ = match (self.count(CheckStatus::Fail), self.count(CheckStatus::Warn)) {
            (0, 0) => writeln!(text, "no problem found"),
            (fails, warnings) => writeln!(text, "failed: {fails}, warnings: {warnings}"),
        };
        text
    }
}

impl CheckStatus {
    fn word(self, colours: bool) -> String {
        let (word, colour) = match self {
            Self::Ok => ("ok  ", 32),
            Self::Warn => ("warn", 33),
            Self::Fail => ("fail", 31),
        };
        if colours { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> DoctorReport {
        let mut report = DoctorReport::default();
        report.ok("config", "the configuration is valid");
        report.warn("git", "a\u{1b}[2Jb", "remove it");
        report.fail("data", "other users can enter /d", "run `chmod 700 /d`");
        report
    }

    #[test]
    fn each_check_is_one_line_and_its_hint_another() {
        insta::assert_snapshot!(report().text(false), @r"
        ok    config  the configuration is valid
        warn  git     a\u{1b}[2Jb
                      hint: remove it
        fail  data    other users can enter /d
                      hint: run `chmod 700 /d`
        failed: 1, warnings: 1
        ");
    }

    #[test]
    fn warnings_alone_are_no_failure() {
        let mut report = report();
        assert!(report.failed());
        report.checks.pop();
        assert!(!report.failed());
    }

    #[test]
    fn of_many_checks_only_the_least_severe_are_omitted() {
        let mut found = report();
        found.fail("key", "x", "y");
        let mut whole = DoctorReport::default();
        let omitted = whole.add_worst(found, 3);
        let ids = |checks: &[DoctorCheck]| checks.iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!(ids(&whole.checks), ["data", "key", "git"]);
        assert_eq!(ids(&omitted), ["config"]);
    }

    #[test]
    fn checks_in_json_have_stable_names() {
        insta::assert_snapshot!(serde_json::to_string(&report().checks[1..]).unwrap(), @r#"[{"id":"git","status":"warn","message":"a\u001b[2Jb","hint":"remove it"},{"id":"data","status":"fail","message":"other users can enter /d","hint":"run `chmod 700 /d`"}]"#);
    }
}
