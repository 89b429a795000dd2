// The shop's front, the one service that the world sees. The others are asked by name; where they run is not its business.
const CATALOG = "http://catalog.shop.internal";
const PRICES = "http://prices.shop.internal";
const ORDERS = "http://orders.shop.internal";

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/shop" && request.method === "GET") return page();
    if (pathname === "/shop/orders" && request.method === "POST") return order(request);
    return new Response(`there is no ${request.method} ${pathname} here\n`, { status: 404 });
  },
};

async function page() {
  const items = await (await ask(`${CATALOG}/items`)).json();
  const prices = await Promise.all(items.map(({ id }) => price(id)));
  const rows = items.map(({ id, name }, at) => `<li>${escaped(name)} (${escaped(id)}): ${prices[at]}</li>`);
  const html = `<!doctype html>\n<title>Boats</title>\n<h1>Boats</h1>\n<ul>\n${rows.join("\n")}\n</ul>\n`;
  return new Response(html, { headers: { "content-type": "text/html; charset=utf-8" } });
}

async function price(id) {
  const { cents, currency } = await (await ask(`${PRICES}/prices/${encodeURIComponent(id)}`)).json();
  return `${(cents / 100).toFixed(2)} ${currency}`;
}

/** Hands the order on, and its answer back: what is wrong with one, the service of orders says. */
async function order(request) {
  const body = await request.text();
  const answer = await fetch(`${ORDERS}/orders`, { method: "POST", body, headers: { "content-type": "application/json" } });
  return new Response(await answer.text(), { status: answer.status, headers: { "content-type": answer.headers.get("content-type") } });
}

async function ask(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return answer;
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
