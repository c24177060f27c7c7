//! How many replays a tenant may have running: a temporary integration that runs is one.

use shared::integration::{Integration, IntegrationType};

use crate::App;
use crate::error::ApiError;

/// Refuses to register one more replay where as many run as may.
///
/// Reads the tenant's integrations consistently, and writes nothing: calls made at the same moment can pass together. That
/// is harmless, since the 25 integrations of a tenant are counted exactly; this keeps one tenant from filling the replay and
/// delivery queues with its past.
///
/// # Errors
/// 409 `limit_exceeded`; 500 where the integrations cannot be read.
pub async fn check(
    app: &App,
    tenant: &str,
    integration_type: IntegrationType,
) -> Result<(), ApiError> {
    if integration_type != IntegrationType::Temporary {
        return Ok(());
    }
    let integrations = app.integrations.list(tenant).await?;
    if running(&integrations) >= app.max_running_replays {
        return Err(ApiError::too_many_replays(app.max_running_replays));
    }
    Ok(())
}

fn running(integrations: &[Integration]) -> usize {
    integrations
        .iter()
        .filter(|it| it.integration_type == IntegrationType::Temporary && it.is_running())
        .count()
}
