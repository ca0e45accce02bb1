//! Node's HTTP libraries and the SDKs of providers, started by `keyward run` on the oldest and the newest supported
//! Node, and the other JavaScript runtimes.

use crate::api::*;
use crate::mcp::MCP;
use crate::served::{Program, served};
use crate::stage::installed;

fn script(runtime: &str, arguments: &[&str], script: &str) -> Program {
    let runtime = format!("real-node/node_modules/{runtime}");
    let program = Program::script(&runtime, arguments, &format!("node/{script}"));
    program.linked("node_modules", "real-node/node_modules")
}

/// What `node:http2` needs in Deno.
fn deno_with_the_script() -> Program {
    let deno = installed("real-node/node_modules/.bin/deno");
    let script = "\"$(dirname \"$DENO_CERT\")/node-shim.cjs\"";
    let options = format!("--allow-all --quiet --require={script}");
    Program::shell(&format!("{} run {options} http2.mjs", deno.display())).with("node/http2.mjs")
}

/// All programs on one version of Node.
macro_rules! on {
    ($version:ident) => {
        mod $version {
            use super::*;

            fn node(name: &str) -> Program {
                script(concat!(stringify!($version), "/bin/node"), &[], name)
            }

            served! {
                fetch_is_served: node("fetch.mjs"), OPENAI, ["GET /v1/models"];
                https_is_served: node("https.mjs"), OPENAI, ["GET /v1/models"];
                https_with_its_own_agent_is_served: node("https_agent.mjs"), OPENAI, ["GET /v1/models"];
                axios_is_served: node("axios.mjs"), OPENAI, ["GET /v1/models"];
                old_axios_is_served: node("axios_old.mjs"), OPENAI, ["GET /v1/models"];
                got_is_served: node("got.mjs"), OPENAI, ["GET /v1/models"];
                undici_is_served: node("undici.mjs"), OPENAI, ["GET /v1/models"];
                undicis_agent_is_served: node("undici_agent.mjs"), OPENAI, ["GET /v1/models"];
                an_agent_of_undici_without_a_proxy_is_served: node("undici_own_agent.mjs"), OPENAI,
                    ["GET /v1/models"];
                http2_is_served: node("http2.mjs"), OPENAI, ["GET /v1/models"];
                ws_is_served: node("ws.mjs"), OPENAI, ["GET /v1/models"];
                openai_is_served: node("openai_chat.mjs"), OPENAI, ["POST /v1/chat/completions"];
                openai_is_served_a_stream: node("openai_stream.mjs"), OPENAI,
                    ["POST /v1/chat/completions"];
                anthropic_is_served: node("anthropic_message.mjs"), ANTHROPIC,
                    ["POST /v1/messages"];
                anthropic_is_served_a_stream: node("anthropic_stream.mjs"), ANTHROPIC,
                    ["POST /v1/messages"];
                octokit_is_served: node("octokit.mjs"), GITHUB, ["GET /user"];
                the_ai_sdk_is_served: node("ai_sdk.mjs"), OPENAI, ["POST /v1/responses"];
                stripe_is_served: node("stripe_balance.mjs"), STRIPE, ["GET /v1/balance"];
                the_mcp_sdk_is_served: node("mcp.mjs"), MCP,
                    ["GET /mcp", "POST /mcp", "POST /mcp", "POST /mcp"];
            }
        }
    };
}

on!(node20);
on!(node24);
on!(node26);

served! {
    deno_is_served: script(".bin/deno", &["run", "--allow-all", "--quiet"], "fetch.mjs"), OPENAI,
        ["GET /v1/models"];
    http2_is_served_in_deno_with_the_script_for_node: deno_with_the_script(), OPENAI,
        ["GET /v1/models"];
    bun_is_served: script(".bin/bun", &["run"], "fetch.mjs"), OPENAI, ["GET /v1/models"];
    https_with_its_own_agent_is_served_in_bun: script(".bin/bun", &["run"], "https_agent.mjs"), OPENAI,
        ["GET /v1/models"];
    http2_is_served_in_bun: script(".bin/bun", &["run"], "http2.mjs"), OPENAI, ["GET /v1/models"];
    the_websocket_of_bun_is_served: script(".bin/bun", &["run"], "websocket_of_bun.mjs"), OPENAI,
        ["GET /v1/models"];
    openai_in_bun_is_served: script(".bin/bun", &["run"], "openai_chat.mjs"), OPENAI,
        ["POST /v1/chat/completions"];
}
