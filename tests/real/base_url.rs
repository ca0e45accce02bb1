//! SDKs with a base URL, with the agent's token as their API key and without a proxy. The scripts are the same as
//! in the tests with a proxy.

use crate::api::*;
use crate::served::{Program, served};
use crate::stage::installed;

/// Address and token are taken from the proxy's variable, as `keyward env --base-url` would print them.
/// Then nothing leads to the proxy any more.
const GIVEN: &str = r#"
    rest=${HTTPS_PROXY#http://*:}
    token=${rest%@*}
    at=${rest#*@}
    unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY all_proxy NODE_OPTIONS NODE_USE_ENV_PROXY
    export OPENAI_BASE_URL="http://$at/to/live/v1" OPENAI_API_KEY="$token"
    export ANTHROPIC_BASE_URL="http://$at/to/live" ANTHROPIC_API_KEY="$token"
"#;

/// A script of `programs/`.
fn given(interpreter: &str, script: &str) -> Program {
    let name = script.rsplit('/').next().unwrap_or(script);
    let interpreter = installed(interpreter);
    Program::shell(&format!("{GIVEN} exec \"$1\" {name}"))
        .argument(interpreter.to_str().expect("a path of letters"))
        .with(script)
}

fn python(name: &str) -> Program {
    given("real-venv/bin/python", &format!("python/{name}"))
}

fn node(name: &str) -> Program {
    given("real-node/node_modules/node24/bin/node", &format!("node/{name}"))
        .linked("node_modules", "real-node/node_modules")
}

fn shell(line: &str) -> Program {
    Program::shell(&format!("{GIVEN} {line}"))
}

served! {
    curl_is_served: shell(
        r#"curl --fail --no-progress-meter --output got "$OPENAI_BASE_URL/models" \
           --header "Authorization: Bearer $token"; echo answer: fine"#
    ), OPENAI, ["GET /v1/models"];
    curl_is_served_by_user_and_password: shell(
        r#"curl --fail --no-progress-meter --output got "http://ci:$token@$at/to/live/v1/models"
           echo answer: fine"#
    ), OPENAI, ["GET /v1/models"];
    wget_answers_the_challenge: shell(
        r#"wget --quiet --no-config --output-document got "http://ci:$token@$at/to/live/v1/models"
           echo answer: fine"#
    ), OPENAI, ["GET /v1/models"];
    openai_is_served: python("openai_chat.py"), OPENAI, ["POST /v1/chat/completions"];
    openai_is_served_a_stream: python("openai_stream.py"), OPENAI, ["POST /v1/chat/completions"];
    openais_async_client_is_served: python("openai_async.py"), OPENAI, ["POST /v1/responses"];
    anthropic_is_served: python("anthropic_message.py"), ANTHROPIC, ["POST /v1/messages"];
    openai_for_node_is_served: node("openai_chat.mjs"), OPENAI, ["POST /v1/chat/completions"];
    anthropic_for_node_is_served_a_stream: node("anthropic_stream.mjs"), ANTHROPIC,
        ["POST /v1/messages"];
}
