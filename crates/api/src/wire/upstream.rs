//! `/upstreams` as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::host::Target;
use keyward_net::reach::{Reached, Unreached};

const OVER_CLEARTEXT: &str =
    "it speaks no TLS, and a rule allows cleartext there: no certificate was checked";

/// A host of a connection, and whether it is reached.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UpstreamView {
    /// With its port.
    pub host: String,
    /// Whether it answers and proves who it is; where a rule allows cleartext, whether it answers.
    pub reached: bool,
    /// The corporate proxy that it is reached by; absent: directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What is wrong; of a host that is reached over cleartext, what was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl UpstreamView {
    /// What came of trying it.
    pub fn new(target: &Target, tried: Result<Reached, Unreached>) -> Self {
        let host = target.authority();
        match tried {
            Ok(Reached { proxy, cleartext }) => {
                let proxy = proxy.map(|proxy| proxy.to_string());
                let message = cleartext.then(|| OVER_CLEARTEXT.to_owned());
                Self { host, reached: true, proxy, message, hint: None }
            }
            Err(Unreached { message, hint, .. }) => {
                let (message, hint) = (Some(message), Some(hint));
                Self { host, reached: false, proxy: None, message, hint }
            }
        }
    }
}
