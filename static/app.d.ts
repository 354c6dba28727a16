// Types for app.js: what it keeps, what the templates hold, and the parts of htmx and hx-ws that it uses.

interface Unsent {
  to: string;
  body: string;
  nonce: string;
  /** Milliseconds, as Date.now() gives them. */
  at: number;
}

interface Selected extends HTMLElementTagNameMap {
  "#body": HTMLTextAreaElement;
  "#composer": HTMLFormElement;
  "#composer [name=to]": HTMLInputElement;
  "#cursor": HTMLInputElement;
  "#first": HTMLInputElement;
  "#pending-message": HTMLTemplateElement;
  "#view [name=visible]": HTMLInputElement;
  "#read [name=version]": HTMLInputElement;
  "#view, #read": HTMLFormElement;
}

type Maybe = Element | null | undefined;
type Nonces = Set<string | undefined>;
type Connection = { socket: WebSocket };
type Reported = "#view [name=visible]" | "#read [name=version]";
type Found<S> = S extends keyof Selected ? Selected[S] : HTMLElement;
type Find = <S extends string>(selector: S, within?: ParentNode) => Found<S> | null;
type FindAll = <S extends string>(selector: S, within?: ParentNode) => Found<S>[];

/** Pages have no elements but those of HTML and SVG, and all of these have a dataset. */
interface Element {
  readonly dataset: DOMStringMap;
}

interface HtmxEvents {
  "htmx:before:response": CustomEvent<{ ctx: { response: { status: number } } }>;
  "htmx:before:swap": CustomEvent<{
    ctx: { sourceElement?: Element };
    tasks: { fragment: DocumentFragment; target: Element | string }[];
  }>;
  "htmx:ws:after:connection": CustomEvent<{ connection: Connection }>;
  "htmx:ws:before:message:outgoing": CustomEvent<{ message: { values: Record<string, string> } }>;
  "htmx:ws:close": CustomEvent<{ code: number | null }>;
}

interface DocumentEventMap extends HtmxEvents {}
interface HTMLElementEventMap extends HtmxEvents {}

declare const htmx: {
  swap(context: { text: string; sourceElement: Element; target: Element; swap: string }): Promise<void>;
  trigger(on: Element, event: string): boolean;
};
