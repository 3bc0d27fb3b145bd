// Paths as state: the browser's history, and nothing else.

import { useSyncExternalStore } from "react";

const listeners = new Set<() => void>();

function tell() {
  for (const listener of listeners) listener();
}

window.addEventListener("popstate", tell);

export function go(path: string, replace = false) {
  if (path === location.pathname + location.search) return;
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  tell();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

export function usePath(): { path: string[]; query: URLSearchParams; href: string } {
  const href = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const url = new URL(href, location.origin);
  return { path: url.pathname.split("/").filter(Boolean), query: url.searchParams, href };
}
