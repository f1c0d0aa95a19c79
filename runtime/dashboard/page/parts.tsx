/** Pieces that every view uses. */
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Status } from "./api.ts";

export function Trouble({ error }: { error: string | undefined }): VNode | null {
  if (error === undefined) return null;
  return (
    <p class="trouble" role="alert">
      {error}
    </p>
  );
}

/** In place of what is not there yet. It shows after a moment only, so what comes at once does not flicker. */
export function Waiting({ what, isSlow = false }: { what: string; isSlow?: boolean }): VNode {
  return (
    <p class="being-read" role="status">
      <span class="spinner" aria-hidden="true" /> Reading {what} …
      {isSlow && " With many of them the first time takes a while."}
    </p>
  );
}

/** For what comes by itself, when its time is there. */
export function Clock(): VNode {
  return (
    <svg class="clock" viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">
      <circle cx="8" cy="8" r="6.5" />
      <path d="M8 4.2V8l2.6 1.8" />
    </svg>
  );
}

export function StatusTag({ status }: { status: Status }): VNode {
  return <span class={`tag status-${status}`}>{status}</span>;
}

export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }): VNode {
  const { title, onClose, children } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog ref={dialog} aria-label={title} onCancel={onClose} onClose={onClose}>
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}
