// Rejected events: read, sent again, deleted.

import { useState } from "preact/hooks";

import * as api from "./api";
import { useLoaded } from "./load";
import { Act, Cell, Confirmed, Empty, Json, Refused, Table, Time } from "./ui";

const LOOKS_EVERY = 5_000;

export function RejectedList({ id }: { id: string }) {
  const loaded = useLoaded((signal) => api.rejected(id, signal), [id], LOOKS_EVERY);
  const [open, setOpen] = useState<string>();
  const [said, setSaid] = useState("");
  const rejected = loaded.value?.rejected_events;
  const retryAll = async () => {
    const { delivered, rejected, left, reason } = await api.retryAll(id);
    const parts = [`${delivered} taken`, `${rejected} rejected again`];
    if (left) parts.push(`${left} not sent`);
    setSaid(`${parts.join(", ")}.${reason ? ` The last attempt failed: ${reason}.` : ""}`);
    await loaded.again();
  };
  return (
    <>
      <Refused refusal={loaded.refusal} />
      {said && <p role="status">{said}</p>}
      {rejected?.length === 0 && (
        <Empty>
          <p>Nothing was rejected. An event that the receiver refuses with HTTP 400 is kept here, to be read and sent again.</p>
        </Empty>
      )}
      {rejected && rejected.length > 0 && (
        <>
          <div class="row">
            <Act onAct={retryAll}>Retry all</Act>
            <Confirmed
              question={`Delete all ${rejected.length} rejected events of ${id}?`}
              onAct={async () => {
                await api.forgetAll(id);
                await loaded.again();
              }}
            >
              Delete all
            </Confirmed>
          </div>
          <Table caption="Rejected events, newest first" heads={["Event", "Rejected", "Response", "Do"]}>
            {rejected.map((it) => (
              <>
                <tr role="row" key={it.id}>
                  <th scope="row" role="rowheader">
                    <button type="button" class="link" aria-expanded={open === it.id} onClick={() => setOpen(open === it.id ? undefined : it.id)}>
                      {it.id}
                    </button>
                  </th>
                  <Cell head="Rejected">
                    <Time at={it.created_at} />
                  </Cell>
                  <Cell head="Response" isLong>{it.answer}</Cell>
                  <Cell head="Do">
                    <div class="row">
                      <Act
                        label={`Retry ${it.id}`}
                        onAct={async () => {
                          await api.retry(id, it.id);
                          setSaid(`The receiver has taken ${it.id}.`);
                          await loaded.again();
                        }}
                      >
                        Retry
                      </Act>
                      <Confirmed
                        label={`Delete ${it.id}`}
                        question={`Delete the rejected event ${it.id}?`}
                        onAct={async () => {
                          await api.forget(id, it.id);
                          await loaded.again();
                        }}
                      >
                        Delete
                      </Confirmed>
                    </div>
                  </Cell>
                </tr>
                {open === it.id && (
                  <tr role="row" class="details">
                    <td colSpan={4}>
                      <Envelope id={id} eventId={it.id} />
                    </td>
                  </tr>
                )}
              </>
            ))}
          </Table>
        </>
      )}
    </>
  );
}

function Envelope({ id, eventId }: { id: string; eventId: string }) {
  const loaded = useLoaded((signal) => api.rejectedOne(id, eventId, signal), [id, eventId]);
  return (
    <>
      <Refused refusal={loaded.refusal} />
      {loaded.value !== undefined && <Json value={loaded.value} label={`Event ${eventId}`} />}
    </>
  );
}
