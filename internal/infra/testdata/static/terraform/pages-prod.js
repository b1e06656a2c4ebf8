// What CloudFront does with a request before it looks for the file. It cannot see which files there are.
const host = "shop.eu";
const services = [{"path":"/docs"},{"path":"/","fallback":"/index.html"}]; // longest path first

function handler(event) {
  const request = event.request;
  if (request.headers.host.value !== host) {
    const location = "https://" + host + request.uri + query(request.querystring);
    return { statusCode: 301, statusDescription: "Moved Permanently", headers: { location: { value: location } } };
  }
  const uri = request.uri;
  const service = services.find((s) => uri === s.path || uri.startsWith(s.path === "/" ? "/" : s.path + "/"));
  if (!service || uri.slice(uri.lastIndexOf("/") + 1).includes(".")) return request; // a file, or what is not there
  const root = uri === service.path || uri === service.path + "/";
  if (service.fallback && !root) request.uri = service.fallback;
  else if (root || uri.endsWith("/")) request.uri = uri.replace(/\/?$/, "/index.html");
  else request.uri = uri + ".html";
  return request;
}

function query(parts) {
  const all = [];
  for (const name in parts) {
    const values = parts[name].multiValue || [parts[name]];
    values.forEach((v) => all.push(v.value === "" ? name : name + "=" + v.value));
  }
  return all.length ? "?" + all.join("&") : "";
}
