//! The agents.

use super::Profile;

pub(super) const AGENTS: &[Profile] = &[CLAUDE_CODE];

const CLAUDE_CODE: Profile = Profile {
    kind: "claude-code",
    user_agents: &["claude-cli", "claude-code"],
    headers: &[("x-claude-code-session-id", "")],
    programs: &["claude"],
    paths: &["@anthropic-ai/claude-code"],
    systems: &["you are claude code"],
    tools: &[],
};
