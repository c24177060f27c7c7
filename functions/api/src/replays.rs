//! How many integrations of a tenant may send what is long past at a time: temporary ones, and permanent ones that catch up.

use crate::App;
use crate::error::ApiError;

/// Refuses to register or to start the integration `id`, which would send what is long past, where as many others do as may.
///
/// Reads the tenant's integrations consistently, and writes nothing: calls made at the same moment can pass together. That
/// is harmless, since the 25 integrations of a tenant are counted exactly; this keeps one tenant from filling the replay and
/// delivery queues with its past.
///
/// # Errors
/// 409 `limit_exceeded`; 500 where the integrations cannot be read.
pub async fn check(app: &App, tenant: &str, id: &str) -> Result<(), ApiError> {
    let now = app.clock.now();
    let integrations = app.integrations.list(tenant).await?;
    let others = integrations.iter().filter(|it| it.id != id);
    let replaying = others.filter(|it| it.is_running() && it.would_replay(now));
    if replaying.count() >= app.max_running_replays {
        return Err(ApiError::too_many_replays(app.max_running_replays));
    }
    Ok(())
}
