//! [`Failure`]: the failure of a command, printed as `error:` and `hint:` lines, with its exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use http::StatusCode;
use serde::Serialize;

use super::escape_controls::escape_controls;
use super::terminal::fold;
use keyward_api::wire::{ErrorView, PlanProblem};
use keyward_app::config::ConfigError;
use keyward_app::{AppError, data_directory_remedy};
use keyward_base::codes::Code;
use keyward_base::system_error;
use keyward_rules::provider::document::Problem;
use keyward_state::directory::DirectoryError;
use keyward_state::store::StoreError;
use keyward_state::store::postgres::PostgresError;

/// Exit codes of the interface. 0 is success, 2 (usage) is clap's as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Any other failure.
    Failed = 1,
    Usage = 2,
    /// No gateway answers.
    Unreachable = 3,
    /// Not allowed.
    Forbidden = 4,
    /// A named resource does not exist.
    NotFound = 5,
    /// `run` itself failed, as `docker run` and env(1) say it.
    RunFailed = 125,
    /// The program of `run` cannot be executed.
    NotExecutable = 126,
    /// The program of `run` does not exist.
    NoProgram = 127,
    /// The user stopped it: 128 + SIGINT, as in shells.
    Interrupted = 130,
}

/// A failure of a command.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) struct Failure {
    exit: Exit,
    errors: Vec<String>,
    hint: Option<String>,
    /// What else the API said, if it refused.
    refusal: Option<Box<ApiRefusal>>,
}

/// Members of a refusal of the API, for programs.
#[derive(Debug, Eq, PartialEq)]
struct ApiRefusal {
    code: String,
    /// The field of the request that was refused.
    field: Option<String>,
    /// The link to the section about the code.
    docs: Option<String>,
    /// The id of the request.
    request: Option<String>,
}

/// Messages of one failure, or notes of one kind, that are printed for people. A mistake in a template may be repeated
/// thousands of times.
pub(super) const SHOWN_MAX: usize = 20;

/// A failure under `--json`: the API's shape, with the exit code and each of several messages.
#[derive(Serialize)]
struct FailureJson<'a> {
    error: FailureMembers<'a>,
}

#[derive(Serialize)]
struct FailureMembers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    message: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    messages: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    exit: u8,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { errors: vec![message.into()], ..Self::silent(exit) }
    }

    /// A failure without a message, because the output explains it.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, errors: Vec::new(), hint: None, refusal: None }
    }

    /// Several messages, such as the errors of a configuration.
    pub(crate) fn several(errors: Vec<String>) -> Self {
        Self { errors, ..Self::silent(Exit::Failed) }
    }

    /// The problems of a file, each with its place.
    pub(crate) fn problems(problems: &[Problem]) -> Self {
        Self::several(problems.iter().map(ToString::to_string).collect())
    }

    /// The problems of a configuration.
    pub(crate) fn refused_configuration(problems: &[PlanProblem]) -> Self {
        Self::several(problems.iter().map(|problem| problem.text.clone()).collect())
            .hint("a start or a reload would refuse this configuration")
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// `what` and its causes.
    pub(crate) fn failed(what: &str, cause: &(dyn Error + 'static)) -> Self {
        let hint = system_error::cause(cause).and_then(system_error::remedy).map(str::to_owned);
        Self { hint, ..Self::new(Exit::Failed, format!("{what}: {}", system_error::chain(cause))) }
    }

    /// The same for a file of the data directory that cannot be made or written.
    pub(crate) fn in_data_directory(what: &str, data: &Path, cause: &io::Error) -> Self {
        Self::failed(what, cause).hint(data_directory_remedy(data, cause))
    }

    /// Adds a remedy.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A refusal of the API.
    pub(crate) fn refused(status: StatusCode, error: ErrorView) -> Self {
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Forbidden,
            StatusCode::NOT_FOUND => Exit::NotFound,
            _ => Exit::Failed,
        };
        let message = match &error.field {
            Some(field) if lacks_subject(&error.message) => format!("`{field}` {}", error.message),
            _ => error.message.clone(),
        };
        let errors = match error.code == Code::ConfigRefused.as_str() {
            true => message.lines().map(str::to_owned).collect(),
            false => vec![message],
        };
        let ErrorView { code, field, hint, docs, request, .. } = error;
        let refusal = Some(Box::new(ApiRefusal { code, field, docs, request }));
        Self { exit, errors, hint, refusal }
    }

    /// Sets another exit code.
    pub(crate) fn with(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Whether the API refused the request with this code.
    pub(crate) fn has_code(&self, code: Code) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.code == code.as_str())
    }

    /// Whether the API refused this field of the request.
    pub(crate) fn has_field(&self, field: &str) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.field.as_deref() == Some(field))
    }

    /// The messages without the hint.
    pub(crate) fn message(&self) -> String {
        self.errors.join("; ")
    }

    pub(crate) fn messages(&self) -> &[String] {
        &self.errors
    }

    /// The hint, if there is one.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Its exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the messages, as one line of JSON if requested, and returns the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        use std::io::Write;
        let text = if json { self.json() } else { fold::for_notes(&self.to_string()) };
        // A closed stderr cannot report this error.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(self.exit as u8)
    }

    /// The line of JSON; empty without a message.
    fn json(&self) -> String {
        if self.errors.is_empty() {
            return String::new();
        }
        let messages = if self.errors.len() > 1 { &*self.errors } else { &[] };
        let refusal = self.refusal.as_deref();
        let error = FailureMembers {
            code: refusal.map(|refusal| &*refusal.code),
            message: self.message(),
            messages,
            field: refusal.and_then(|refusal| refusal.field.as_deref()),
            hint: self.advice(),
            docs: refusal.and_then(|refusal| refusal.docs.as_deref()),
            request: refusal.and_then(|refusal| refusal.request.as_deref()),
            exit: self.exit as u8,
        };
        // Texts and a number serialise.
        serde_json::to_string(&FailureJson { error })
            .map_or_else(|_| self.to_string(), |json| escape_controls(&json) + "\n")
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // A failure that went through `anyhow` keeps its exit code and hint.
        match error.downcast() {
            Ok(failure) => failure,
            Err(error) => match error.downcast_ref() {
                Some(AppError::Declared(problems)) => Self::several(problems.clone()),
                _ => {
                    let hint = error.chain().find_map(remedy);
                    Self { hint, ..Self::new(Exit::Failed, system_error::chain(error.as_ref())) }
                }
            },
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error.problems() {
            [] => {
                let hint = error.hint().map(str::to_owned);
                Self { hint, ..Self::new(Exit::Failed, error.to_string()) }
            }
            problems => Self::problems(problems),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.errors.iter().take(SHOWN_MAX) {
            writeln!(f, "error: {error}")?;
        }
        match self.errors.len().saturating_sub(SHOWN_MAX) {
            0 => {}
            more => writeln!(f, "and {more} more; --json has all")?,
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The remedy for an error of the services.
fn remedy(error: &(dyn Error + 'static)) -> Option<String> {
    let of_app = error.downcast_ref().and_then(AppError::hint);
    let of_store = || error.downcast_ref().and_then(StoreError::hint).map(str::to_owned);
    let of_directory = || error.downcast_ref().and_then(DirectoryError::hint).map(str::to_owned);
    let of_database = || error.downcast_ref().and_then(PostgresError::hint).map(str::to_owned);
    let of_system = || error.downcast_ref().and_then(system_error::remedy).map(str::to_owned);
    of_app.or_else(of_store).or_else(of_directory).or_else(of_database).or_else(of_system)
}

/// Whether a message needs its field's name in front.
fn lacks_subject(message: &str) -> bool {
    ["must ", "is ", "has ", "holds ", "cannot be "].iter().any(|verb| message.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(message: &str, field: Option<&str>) -> ErrorView {
        let (code, field) = ("c".to_owned(), field.map(str::to_owned));
        ErrorView {
            code,
            message: message.to_owned(),
            field,
            hint: None,
            docs: None,
            request: None,
        }
    }

    #[test]
    fn statuses_become_the_exit_codes_of_the_interface() {
        let table = [(401, 4), (403, 4), (404, 5), (409, 1), (422, 1), (500, 1)];
        for (status, exit) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Failure::refused(status, view("m", None)).exit as u8, exit, "{status}");
        }
    }

    #[test]
    fn a_failure_is_printed_as_error_and_hint() {
        let failure = Failure::new(Exit::Unreachable, "store is locked by process 4121")
            .hint("stop the gateway, or use its admin API");
        insta::assert_snapshot!(failure, @r"
        error: store is locked by process 4121
        hint: stop the gateway, or use its admin API
        ");
    }

    #[test]
    fn of_many_messages_the_first_are_printed_and_the_others_counted() {
        let several = |count: usize| {
            Failure::several((1..=count).map(|number| format!("no {number}")).collect())
        };
        let text = several(SHOWN_MAX + 3).hint("correct them").to_string();
        let lines: Vec<_> = text.lines().skip(SHOWN_MAX - 1).collect();
        assert_eq!(lines, ["error: no 20", "and 3 more; --json has all", "hint: correct them"]);
        let json = several(SHOWN_MAX + 3).json();
        assert!(json.contains(r#""no 23"],"exit":1"#), "{json}");
        assert_eq!(several(SHOWN_MAX).to_string().lines().count(), SHOWN_MAX);
    }

    #[test]
    fn a_message_without_a_subject_is_printed_after_its_field() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let failure = Failure::refused(status, view("must be a string", Some("fields.token")));
        assert_eq!(failure.to_string(), "error: `fields.token` must be a string\n");
        let failure = Failure::refused(status, view("no provider `x`", Some("provider")));
        assert_eq!(failure.to_string(), "error: no provider `x`\n");
    }

    #[test]
    fn a_failure_in_json_has_the_shape_of_the_api_and_the_exit_code() {
        assert_eq!(Failure::silent(Exit::Failed).json(), "");
        let (hint, docs) =
            (Some("add it".to_owned()), Some("http://localhost/errors#c".to_owned()));
        let refused = ErrorView { hint, docs, ..view("is \u{1b}", Some("a")) };
        let failure = Failure::refused(StatusCode::NOT_FOUND, refused);
        insta::assert_snapshot!(failure.json(), @r#"{"error":{"code":"c","message":"`a` is \u001b","field":"a","hint":"add it","docs":"http://localhost/errors#c","exit":5}}"#);
        let failure = Failure::several(vec!["one".to_owned(), "two".to_owned()]);
        insta::assert_snapshot!(failure.json(), @r#"{"error":{"message":"one; two","messages":["one","two"],"exit":1}}"#);
    }

    #[test]
    fn each_cause_is_printed_once() {
        let error = anyhow::Error::msg("inner").context("middle").context("outer");
        assert_eq!(Failure::from(error).to_string(), "error: outer: middle: inner\n");
    }
}
