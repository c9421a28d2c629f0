import { render, type JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { conditions } from "./condition.js";
import { begin, known, live } from "./live.js";
import { Notice, Page, Token } from "./parts.js";
import { BlockPage } from "./pages/block.js";
import { CheckPage } from "./pages/check.js";
import { LivePage } from "./pages/live.js";
import { MessagePage } from "./pages/message.js";
import { NetworkPage } from "./pages/network.js";
import { SearchPage, destination } from "./pages/search.js";
import { SubmitPage } from "./pages/submit.js";
import { useNow, useStore } from "./store.js";

const pages = [["", "Live"], ["network", "Network"], ["search", "Search"], ["check", "Check"], ["submit", "Submit"]] as const;

function Current({ path }: { path: string[] }): JSX.Element {
  const [page = "", argument = ""] = path;
  switch (page) {
    case "": return <LivePage />;
    case "network": return <NetworkPage />;
    case "search": return <SearchPage />;
    case "check": return <CheckPage />;
    case "submit": return <SubmitPage />;
    case "block": return /^([0-9]{1,15}|latest)$/.test(argument) ? <BlockPage key={argument} height={argument} /> : <Unknown />;
    case "message": return /^[0-9a-f]{64}$/.test(argument) ? <MessagePage key={argument} id={argument} /> : <Unknown />;
    default: return <Unknown />;
  }
}

function Unknown(): JSX.Element {
  return <Page title="No such page"><p><a href="#/search">Search</a> for a height, an id or a message.</p></Page>;
}

const route = (): string[] => location.hash.replace(/^#\/?/, "").split("/");

function useRoute(): string[] {
  const [path, set] = useState(route);
  useEffect(() => {
    const changed = (): void => set(route());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return path;
}

// How the node and the network are, on every page.
function Conditions(): JSX.Element {
  const l = useStore(live);
  const now = useNow(1000);
  const all = conditions(known(l, now));
  return (
    <div class="conditions" id="conditions">
      {all.map((c) => (
        <Notice key={c.title} level={c.level} title={c.title}>
          {c.text}
          {c.asks === true && <Token />}
        </Notice>
      ))}
      <p class="unseen" role="status">{all[0]?.title}</p>
    </div>
  );
}

function App(): JSX.Element {
  const path = useRoute();
  const search = useRef<HTMLInputElement>(null);
  const main = useRef<HTMLElement>(null);
  const { status } = useStore(live);
  const first = useRef(true);
  // Together with the page: a reader who types at once types into one place.
  useLayoutEffect(() => {
    if (!first.current) main.current?.querySelector("h1")?.focus();
    first.current = false;
    scrollTo(0, 0);
  }, [path.join("/")]);
  useEffect(() => {
    const pressed = (e: KeyboardEvent): void => {
      const writing = e.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName);
      if (e.key !== "/" || writing || e.ctrlKey || e.metaKey || e.altKey) return;
      e.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => {
        e.preventDefault();
        main.current?.querySelector("h1")?.focus();
      }}>To the content</a>
      <header class="top">
        <div class="inner">
          <a class="brand" href="#/"><img src="./explorer/icon.svg" alt="" width="26" height="26" /><span>DISEQ</span></a>
          <nav aria-label="Pages">
            {pages.map(([to, name]) => <a key={to} href={`#/${to}`} aria-current={path[0] === to ? "page" : undefined}>{name}</a>)}
          </nav>
          <form
            role="search"
            onSubmit={(e) => {
              e.preventDefault();
              if (search.current !== null && search.current.value !== "") location.hash = destination(search.current.value);
            }}
          >
            <input ref={search} aria-label="Height, id, or text of a message" placeholder="Height, id, or text   ( / )" spellcheck={false} autocomplete="off" />
          </form>
        </div>
      </header>
      <main ref={main}>
        <Conditions />
        <Current path={path} />
      </main>
      <footer>
        <span>{status?.chain_id !== undefined && <>chain {status.chain_id}</>}{status?.node !== undefined && <>, as node {status.node} sees it</>}</span>
        <a href="./openapi.yaml">HTTP interface</a>
      </footer>
    </>
  );
}

begin();
render(<App />, document.body);
