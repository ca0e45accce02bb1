//! The question before something is removed or replaced. Only on a terminal: scripts are not asked.

use std::fmt::Display;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::secret;

/// Whether to ask.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Confirm {
    /// do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Removal {
    /// The same, without a question.
    pub(crate) fn confirmed(self) -> Self {
        Self { confirm: Confirm { yes: true }, ..self }
    }
}

/// What is removed, and whether to ask before.
#[derive(Debug, clap::Args)]
pub(crate) struct Removal {
    /// name or id
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) confirm: Confirm,
}

impl Confirm {
    /// Whether `--yes` is given.
    pub(crate) fn is_given(self) -> bool {
        self.yes
    }

    /// Whether there is a question.
    pub(crate) fn asks(self) -> bool {
        !self.yes && secret::can_ask()
    }

    /// Shows what is lost and asks; does nothing where there is no question.
    ///
    /// # Errors
    /// When the answer is not yes.
    pub(crate) fn ask(self, question: impl Display, losses: &[String]) -> Result<(), Failure> {
        if !self.asks() {
            return Ok(());
        }
        losses.iter().for_each(|loss| output::note(&format!("- {loss}")));
        let answer = super::text(&format!("{question}? [y/N]"))
            .map_err(|_| Failure::new(Exit::Interrupted, "interrupted: nothing was changed"))?;
        match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Failed, "not confirmed: nothing was changed")
                .hint("answer y, or add --yes")),
        }
    }
}
