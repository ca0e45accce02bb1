//! The rules of a process without listeners. Those of the configuration are kept also before a start has made what they
//! name. If a start would refuse them, or would miss those of a file that was not named, the API refuses what depends on
//! rules (`ValidRules`).

use super::{OpenedServices, all, plan};
use crate::config::Config;
use keyward_state::rulebook::Rulebook;

impl OpenedServices {
    /// The policy, with what a start would refuse in the rules of the configuration.
    ///
    /// # Errors
    /// When the stored rules alone do not compile.
    pub(super) fn rules_at_rest(&self, config: &Config) -> anyhow::Result<(Rulebook, Vec<String>)> {
        let forgotten = plan::forgotten_rules(config);
        let mut refused: Vec<_> = forgotten.iter().map(ToString::to_string).collect();
        if let Ok(rulebook) = self.rulebook(config, config.rules.clone()) {
            return Ok((rulebook, refused));
        }
        let judged = self.judged(config, plan::refused_rules);
        refused.extend(judged.iter().map(ToString::to_string));
        let sources = self.sources(config, config.rules.clone());
        match Rulebook::at_rest(sources, self.directory.clone()) {
            Ok(rulebook) => Ok((rulebook, refused)),
            // Without the rules of the file, so that stored ones can be changed; what depends on rules is refused.
            Err(errors) => {
                if refused.is_empty() {
                    refused = errors.iter().map(ToString::to_string).collect();
                }
                Ok((self.rulebook(config, Vec::new()).map_err(all)?, refused))
            }
        }
    }
}
