//! Libraries that programs make calls with; tried when no agent is recognised. Frameworks first, then the vendors' clients
//! that they use.

use super::Profile;

/// In the order in which they are tried.
pub(super) const SDKS: &[Profile] = &[
    named("openai-agents", &["agents/python", "agents/javascript"]),
    named("langchain", &["langchain", "langgraph", "langchainjs"]),
    named("llama-index", &["llama-index", "llamaindex"]),
    named("pydantic-ai", &["pydantic-ai"]),
    named("crewai", &["crewai"]),
    named("semantic-kernel", &["semantic-kernel"]),
    named("google-adk", &["google-adk"]),
    named("strands", &["strands-agents"]),
    named("vercel-ai", &["ai/", "ai-sdk/"]),
    named("litellm", &["litellm"]),
    named("openai-python", &["openai/python", "asyncopenai/python", "azureopenai/python", "asyncazureopenai/python"]),
    named("openai-node", &["openai/js", "azureopenai/js"]),
    named("openai-go", &["openai/go"]),
    named("openai-java", &["openai/java"]),
    named(
        "anthropic-python",
        &["anthropic/python", "asyncanthropic/python", "anthropicbedrock/python", "anthropicvertex/python"],
    ),
    named("anthropic-node", &["anthropic/js", "anthropicbedrock/js", "anthropicvertex/js"]),
    named("anthropic-go", &["anthropic/go"]),
    named("ollama-python", &["ollama-python"]),
    named("ollama-node", &["ollama-js"]),
    named("mistral-python", &["mistral-client-python"]),
    named("boto3", &["boto3"]),
    named("aws-sdk-js", &["aws-sdk-js"]),
];

const fn named(kind: &'static str, user_agents: &'static [&'static str]) -> Profile {
    Profile { kind, user_agents, headers: &[], programs: &[], paths: &[], systems: &[], tools: &[] }
}

/// Google's client names its language in the same header.
pub(super) fn google_genai(user_agent: &str) -> Option<(&'static str, &str)> {
    let rest = user_agent.split("google-genai-sdk/").nth(1)?;
    let kind = if user_agent.contains("gl-node") { "google-genai-node" } else { "google-genai-python" };
    Some((kind, rest))
}
